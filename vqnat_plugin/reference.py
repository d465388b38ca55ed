"""The generated parts of README.md: options from their dataclasses, results from committed reports."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .evaluation.files import read_json
from .evaluation.report import results
from .models.vq_nat_config import SIZES, VQNATConfig
from .tasks.translation_vq import TranslationVQConfig


def _choices(entry: dataclasses.Field[Any]) -> str:
    members = getattr(entry.type, "__members__", None)
    return " (" + ", ".join(f"`{member.value}`" for member in members.values()) + ")" if members else ""


def _own_fields(config: type, parent: type | None = None) -> list[dataclasses.Field[Any]]:
    inherited = {entry.name for entry in dataclasses.fields(parent)} if parent else set()
    return [
        entry for entry in dataclasses.fields(config) if entry.name not in inherited and entry.name != "_name"
    ]


def _row(entry: dataclasses.Field[Any]) -> str:
    flag = "--" + entry.name.replace("_", "-")
    default = "" if entry.default is None else f"`{getattr(entry.default, 'value', entry.default)}`"
    return f"| `{flag}` | {default} | {entry.metadata['help']}{_choices(entry)} |"


def flags_reference() -> str:
    """Markdown tables: the options of the model and of the task, and the sizes of the named architectures."""
    head = ["| flag | default | meaning |", "|---|---|---|"]
    model = [_row(entry) for entry in _own_fields(VQNATConfig)]
    task = [_row(entry) for entry in _own_fields(TranslationVQConfig, TranslationVQConfig.__base__)]
    options = sorted({option for sizes in SIZES.values() for option in sizes})
    names = ["vq_nat_em", *SIZES]
    sizes = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for option in options:
        values = [SIZES.get(name, {}).get(option, getattr(VQNATConfig, option)) for name in names]
        sizes.append(f"| `--{option.replace('_', '-')}` | {' | '.join(map(str, values))} |")
    parts = [
        ["**`--arch vq_nat_em`**", "", *head, *model],
        ["**Sizes**, where they differ", "", *sizes],
        ["**`--task translation_vq`**, beyond `--task translation`", "", *head, *task],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def results_reference(examples: Path) -> str:
    """Markdown: the results of every recipe with a committed report, `examples/NAME/results/report.json`."""
    parts = []
    for path in sorted(examples.glob("*/results/report.json")):
        report = read_json(path)
        recipe = path.parent.parent.name
        minutes = sum(report["stages"].values()) / 60
        known = report["machine"]
        machine = f"{known['system']}, {known['cpu']}, {known['cores']} cores, {known['memory_gib']} GiB"
        made = f"every row is made by `examples/{recipe}/run.sh` ({minutes:.0f} minutes on {machine}; seed"
        commands = f"[examples/{recipe}/results](examples/{recipe}/results/report.md)"
        parts.append(
            f"**{report['title']}**: {made} {report['seed']}); the commands behind it are in {commands}.\n\n"
            f"{results(report)}"
        )
    return "\n\n".join(parts)


def fill(text: str, examples: Path) -> str:
    """`text` with fresh content between the markers of each generated part.

    Raises:
        ValueError: a marker is missing.
    """
    generators: dict[str, Callable[[], str]] = {
        "results": lambda: results_reference(examples),
        "flags": flags_reference,
    }
    for name, generate in generators.items():
        start, end = f"<!-- {name}: written by scripts/readme.py -->", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"needs the lines {start} and {end}")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n\n{generate()}\n\n{end}{rest.split(end, 1)[1]}"
    return text
