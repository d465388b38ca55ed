"""The generated parts of README.md: options from their dataclasses, results from committed reports."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from vqnat_plugin.files import read_json

from .evaluation.report import results
from .imaging.report import table_and_notes
from .models.quantized import BottleneckConfig
from .models.vq_image_prior import VQImagePriorConfig
from .models.vq_nat_config import SIZES, VQNATConfig
from .models.vq_vae import VQVAEConfig
from .tasks.image_vq import ImageVQConfig
from .tasks.translation_vq import TranslationVQConfig


def _choices(entry: dataclasses.Field[Any]) -> str:
    members = getattr(entry.type, "__members__", None)
    return " (" + ", ".join(f"`{member.value}`" for member in members.values()) + ")" if members else ""


def _own_fields(config: type, parent: type | None = None) -> list[dataclasses.Field[Any]]:
    """The documented options of a configuration that its parent has not, or has with another default."""
    inherited = {entry.name: entry.default for entry in dataclasses.fields(parent)} if parent else {}
    return [
        entry
        for entry in dataclasses.fields(config)
        if entry.metadata.get("help") and (inherited.get(entry.name, ...) != entry.default)
    ]


def _row(entry: dataclasses.Field[Any]) -> str:
    flag = "--" + entry.name.replace("_", "-")
    default = getattr(entry.default, "value", entry.default)
    shown = "" if default is None or default == MISSING else f"`{default}`"
    return f"| `{flag}` | {shown} | {entry.metadata['help']}{_choices(entry)} |"


def _options(title: str, config: type, parent: type | None = None) -> str:
    rows = [_row(entry) for entry in _own_fields(config, parent)]
    return "\n".join([title, "", "| flag | default | meaning |", "|---|---|---|", *rows])


def _sizes() -> str:
    """The named architectures of the translation model, where they differ."""
    names = ["vq_nat_em", *SIZES]
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for option in sorted({option for sizes in SIZES.values() for option in sizes}):
        values = [SIZES.get(name, {}).get(option, getattr(VQNATConfig, option)) for name in names]
        lines.append(f"| `--{option.replace('_', '-')}` | {' | '.join(map(str, values))} |")
    return "\n".join(["**Sizes**, where they differ", "", *lines])


def flags_reference() -> str:
    """Markdown tables: the options of models and tasks, and the sizes of the named architectures."""
    translation = TranslationVQConfig.__base__
    return "\n\n".join(
        [
            _options("**The bottleneck**, of translation and image models", BottleneckConfig),
            _options("**`--arch vq_nat_em`**", VQNATConfig, BottleneckConfig),
            _sizes(),
            _options(
                "**`--task translation_vq`**, beyond `--task translation`", TranslationVQConfig, translation
            ),
            _options("**`--arch vq_vae_em`**", VQVAEConfig, BottleneckConfig),
            _options("**`--arch vq_image_prior`**", VQImagePriorConfig),
            _options("**`--task image_vq`**", ImageVQConfig),
        ]
    )


def _result(path: Path, examples: Path) -> str:
    """What a committed report says in the README."""
    report, folder = read_json(path), path.parent
    link = f"[{folder.relative_to(examples.parent)}]({folder.relative_to(examples.parent)}/report.md)"
    known = report["machine"]
    machine = f"{known['system']}, {known['cpu']}, {known['cores']} cores, {known['memory_gib']} GiB"
    if known.get("gpu"):
        machine += f", {known['gpu']}"
    if "comparisons" in report:
        titles = "; ".join(each["title"] for each in report["comparisons"].values())
        made = f"made by `examples/ablations/run.sh` on {machine}"
        return f"**Comparisons with small models**, {made}: {link}. {titles}."
    recipe = folder.relative_to(examples).parts[0]
    script = "run" if folder.name == "results" else folder.name
    minutes = sum(report["stages"].values()) / 60
    seed = "" if report["seed"] is None else f"; seed {report['seed']}"
    made = f"every row is made by `examples/{recipe}/{script}.sh` ({minutes:.0f} minutes on {machine}{seed})"
    table = table_and_notes(report) if "results" in report else results(report)
    return f"**{report['title']}**: {made}; the commands behind it are in {link}.\n\n{table}"


# What a reader asks first: full models on real data; then how small ones compare, and made-up text.
FIRST_RECIPES = ("multi30k", "own_corpus", "speed", "cifar10", "ablations")


def results_reference(examples: Path) -> str:
    """Markdown: the results of all committed reports, `examples/NAME/results/**/report.json`."""

    def place(path: Path) -> tuple[int, int, Path]:
        parts = path.relative_to(examples).parts
        # A recipe's comparisons lie in folders below its full models.
        return (*FIRST_RECIPES, parts[0]).index(parts[0]), len(parts), path

    reports = sorted(examples.glob("*/results/**/report.json"), key=place)
    return "\n\n".join(_result(path, examples) for path in reports)


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
