"""From what fairseq passes to the options of a model or task, each declared once by `options.option`."""

import dataclasses
from typing import Any, TypeVar

from fairseq.models import ARCH_MODEL_NAME_REGISTRY, register_model_architecture

from .. import options
from ..errors import UsageError
from ..fairseq_commands import program

Config = TypeVar("Config")


def complete(kind: type[Config], args: Any) -> Config:
    """A whole, checked configuration from what fairseq passes: a namespace, or one of its own kind.

    Args:
        kind: a dataclass of options; its method `check`, if it has one, raises for combinations.
        args: holds the options by name; what it lacks, or has as None, keeps its default.

    Raises:
        UsageError: an option is out of its range, or options do not go together.
    """
    name = str(getattr(args, "_name", ""))
    model = ARCH_MODEL_NAME_REGISTRY.get(name, name)
    if model != name and program() == "fairseq-hydra-train":
        # fairseq would take the sizes of the model's base, without a word.
        raise UsageError(f"model._name {name}: is for --arch only; give _name {model} and its sizes")
    config = kind()
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name != "_name" and getattr(args, field.name, None) is not None:
            setattr(config, field.name, getattr(args, field.name))
    for field, kind_of_value in options.option_fields(kind):
        _check_type(options.flag(field.name), getattr(config, field.name), kind_of_value)
    options.check(config)
    if own := getattr(config, "check", None):
        own()
    return config


def _check_type(name: str, value: Any, wanted: Any) -> None:
    """Raise `UsageError` for what is no number where one is needed: overrides may be anything."""
    allowed = {int: int, float: int | float}.get(wanted)
    if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
        raise UsageError(f"{name} {value!r}: needs a {'whole ' if wanted is int else ''}number")


def register_sizes(model: str, sizes: dict[str, dict[str, Any]]) -> None:
    """Register named architectures of a model: for each, the options that differ from the defaults."""

    def register(name: str, changed: dict[str, Any]) -> None:
        @register_model_architecture(model, name)
        def architecture(args: Any) -> None:
            for option, value in changed.items():
                setattr(args, option, getattr(args, option, value))

    for name, changed in sizes.items():
        register(name, changed)
