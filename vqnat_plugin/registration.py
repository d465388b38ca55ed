"""Registering models, criterions and tasks with fairseq, as soon as fairseq is in use and not before."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# Importing one of these registers it.
REGISTERED = (
    "criterions.vq_nat_loss",
    "criterions.vq_vae_loss",
    "models.vq_image_prior",
    "models.vq_nat",
    "models.vq_vae",
    "tasks.image_vq",
    "tasks.translation_vq",
)


def register() -> None:
    """Make fairseq know everything of this package; `compat` calls it at its end."""
    for name in REGISTERED:
        importlib.import_module(f".{name}", __package__)


class _Watch:
    """A finder that waits for `import fairseq` and loads `compat` right behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "fairseq":
            return None
        stop_watching()
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(".compat", __package__)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_watch = _Watch()


def watch() -> None:
    """Register now if fairseq is in use already, else when it is imported."""
    if "fairseq" in sys.modules:
        importlib.import_module(".compat", __package__)
    elif _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)


def stop_watching() -> None:
    """For `compat`, which imports fairseq itself."""
    if _watch in sys.meta_path:
        sys.meta_path.remove(_watch)
