"""Decoding of what `vqnat export` wrote, with numpy and ONNX Runtime; `Translator` is what one needs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .translator import Translation, Translator

__all__ = ["Translation", "Translator"]


def __getattr__(name: str) -> Any:
    # Commands read the options of decoding without numpy and ONNX Runtime.
    if name in __all__:
        from . import translator

        return getattr(translator, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
