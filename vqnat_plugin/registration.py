"""Registering models, criterions and tasks with fairseq, as soon as fairseq is in use and not before."""

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    "tasks.text_tokenizer",
    "tasks.translation_vq",
)


def register() -> None:
    """Make fairseq know everything of this package; `compat` calls it at its end."""
    for name in REGISTERED:
        importlib.import_module(f".{name}", __package__)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """For the import of fairseq, which is noisy and does not leave logging alone.

    Two of its modules configure the root logger, which then prints everybody's debug messages; others use
    what torch has deprecated, and tell the user to install what nothing here needs.
    """
    root = logging.getLogger()
    level, handlers, disabled = root.level, root.handlers[:], root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


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
            with quiet_imports():
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
