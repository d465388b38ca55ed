"""Every number that is declared as an option: what is none, or cannot be, is one line that names it."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin import options
from vqnat_plugin.commands import main as vqnat
from vqnat_plugin.errors import UsageError
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_image_prior import VQImagePriorConfig
from vqnat_plugin.models.vq_nat_config import VQNATConfig
from vqnat_plugin.models.vq_vae import VQVAEConfig
from vqnat_plugin.options import FILE, flag, option_fields
from vqnat_plugin.tasks.image_vq import ImageVQConfig

TWENTY = 10**20 - 1
NO_NUMBERS = ("nan", "-inf", "1e400", "1,5", "")
Field = dataclasses.Field[Any]


def numbers(kind: type) -> Iterator[tuple[Field, type]]:
    """The options of a dataclass that are numbers, with the types of these."""
    for field, annotation in option_fields(kind):
        found, _ = options._kind(annotation, field.metadata["repeat"])
        if found in (int, float):
            yield field, found


def outside(field: Field, kind: type) -> Iterator[float]:
    """Numbers that an option cannot have: beyond the ends of its range, and far beyond."""
    marks = field.metadata
    if math.isfinite(marks["least"]):
        yield marks["least"] - 1
    if math.isfinite(marks["above"]):
        yield marks["above"]
    if math.isfinite(marks["most"]):
        yield 2 * marks["most"] + 1
    if math.isfinite(marks["below"]):
        yield marks["below"]
    if kind is int:
        yield from (TWENTY, -(10**40))


COMMANDS = [
    (name, field.name, value if isinstance(value, str) else repr(kind(value)))
    for name in vqnat.COMMANDS
    for field, kind in numbers(vqnat.load(name).Options)
    for value in (*NO_NUMBERS, *outside(field, kind))
]
MODELS = [
    (kind, field.name, value)
    for kind in (VQNATConfig, VQVAEConfig, VQImagePriorConfig, ImageVQConfig)
    for field, type_ in numbers(kind)
    for value in (math.nan, math.inf, *outside(field, type_))
]


@pytest.fixture(scope="session")
def required(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """For each command, its required options, with files and folders that are there."""
    folder = tmp_path_factory.mktemp("required")
    file = folder / "file.tsv"
    file.touch()
    found: dict[str, list[str]] = {}
    for name in vqnat.COMMANDS:
        words = found[name] = []
        for field, annotation in option_fields(vqnat.load(name).Options):
            kind, _ = options._kind(annotation, field.metadata["repeat"])
            if field.default is not dataclasses.MISSING or field.metadata["rest"]:
                continue
            path = folder / "new" if field.metadata["writes"] else folder
            value = str(file if field.metadata["exists"] == FILE else path) if kind is Path else "NAME"
            values = [value, *[str(file)] * field.metadata["repeat"]]
            values = list(field.metadata["allowed"][:1]) or values
            words += values if field.metadata["positional"] else [flag(field.name), *values]
    return found


@pytest.mark.parametrize(("command", "name", "value"), COMMANDS)
def test_an_option_of_a_command_refuses_it(
    command: str, name: str, value: str, required: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    kind = vqnat.load(command).Options
    with pytest.raises(SystemExit) as ended:
        options.parse(kind, vqnat.parser_of(command), [*required[command], f"{flag(name)}={value}"])
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"vqnat {command}: error: ") and f"{flag(name)}" in line and "needs" in line
    assert len(line) < 700


@pytest.mark.parametrize(("kind", "name", "value"), MODELS)
def test_an_option_of_a_model_or_task_refuses_it(kind: type, name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"^{flag(name)} \S+: needs "):
        complete(kind, dataclasses.make_dataclass("Given", [name])(value))
