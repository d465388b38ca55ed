"""examples/OPTIONS.md: every option of commands, models and tasks, from the dataclasses that declare it."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from omegaconf import MISSING

from vqnat_plugin.commands.main import GROUPS, load, summary
from vqnat_plugin.models import vq_image_prior, vq_nat_config, vq_vae
from vqnat_plugin.models.quantized import BottleneckConfig
from vqnat_plugin.models.vq_image_prior import VQImagePriorConfig
from vqnat_plugin.models.vq_nat_config import VQNATConfig
from vqnat_plugin.models.vq_vae import VQVAEConfig
from vqnat_plugin.options import flag, option_fields
from vqnat_plugin.tasks.image_vq import ImageVQConfig
from vqnat_plugin.tasks.translation_vq import TranslationVQConfig

HEADER = ("| option | default | meaning |", "|---|---|---|")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _values(entry: dataclasses.Field[Any]) -> str:
    """The values that an option may have, if they are few."""
    members = getattr(entry.type, "__members__", None)
    allowed = [member.value for member in members.values()] if members else entry.metadata.get("allowed", ())
    return " (" + ", ".join(f"`{value}`" for value in allowed) + ")" if allowed else ""


def _default(entry: dataclasses.Field[Any]) -> str:
    default = getattr(entry.default, "value", entry.default)
    if default is dataclasses.MISSING or default == MISSING:
        return "required"
    if default is None or default == ():
        return ""
    return f"`{' '.join(map(str, default)) if isinstance(default, tuple) else default}`"


def _row(entry: dataclasses.Field[Any], name: str) -> str:
    return f"| `{name}` | {_default(entry)} | {_cell(entry.metadata['help'])}{_values(entry)} |"


def _command(name: str) -> str:
    module = load(name)
    rows = []
    for entry, _ in option_fields(module.Options):
        marks = entry.metadata
        if marks["rest"]:
            rows.append(f"| ... | | {_cell(marks['help'])} |")
            continue
        shown = (marks["placeholder"] or entry.name.upper()) if marks["positional"] else flag(entry.name)
        rows.append(_row(entry, f"{marks['short']}, {shown}" if marks["short"] else shown))
    return "\n".join([f"### vqnat {name}", "", f"{summary(module)}", "", *HEADER, *rows])


def _own_fields(config: type, parent: type | None = None) -> list[dataclasses.Field[Any]]:
    """The documented options of a configuration that its parent has not, or has with another default."""
    inherited = {entry.name: entry.default for entry in dataclasses.fields(parent)} if parent else {}
    return [
        entry
        for entry in dataclasses.fields(config)
        if entry.metadata.get("help") and (inherited.get(entry.name, ...) != entry.default)
    ]


def _config(title: str, config: type, parent: type | None = None) -> str:
    # fairseq's name for what comes without a flag.
    rows = (
        _row(entry, "DATA" if entry.name == "data" else flag(entry.name))
        for entry in _own_fields(config, parent)
    )
    return "\n".join([f"### {title}", "", *HEADER, *rows])


def _sizes(base: str, config: type, sizes: dict[str, dict[str, Any]]) -> str:
    """The named architectures of a model, where they differ."""
    names = [base, *sizes]
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for option in sorted({option for size in sizes.values() for option in size}):
        values = [sizes.get(name, {}).get(option, getattr(config, option)) for name in names]
        lines.append(f"| `{flag(option)}` | {' | '.join(map(str, values))} |")
    return "\n".join([f"### Sizes of `{base}`, where they differ", "", *lines])


def _parts() -> Iterable[str]:
    yield "# All options"
    yield (
        "Written by `scripts/readme.py`. `vqnat COMMAND --help` shows the same; for models and tasks, "
        "`vqnat train --task translation_vq --arch vq_nat_em --criterion vq_nat_loss --fairseq-help` does."
    )
    yield "## Models and tasks, for `fairseq-train` and `vqnat train`"
    yield _config("The bottleneck, of translation and image models", BottleneckConfig)
    yield _config("`--arch vq_nat_em`", VQNATConfig, BottleneckConfig)
    yield _sizes("vq_nat_em", VQNATConfig, vq_nat_config.SIZES)
    translation = TranslationVQConfig.__base__
    yield _config("`--task translation_vq`, beyond `--task translation`", TranslationVQConfig, translation)
    yield _config("`--arch vq_vae_em`", VQVAEConfig, BottleneckConfig)
    yield _sizes("vq_vae_em", VQVAEConfig, vq_vae.SIZES)
    yield _config("`--arch vq_image_prior`", VQImagePriorConfig)
    yield _sizes("vq_image_prior", VQImagePriorConfig, vq_image_prior.SIZES)
    yield _config("`--task image_vq`", ImageVQConfig)
    for title, names in GROUPS.items():
        yield f"## Commands: {title}"
        yield from map(_command, names)


def reference() -> str:
    """The whole file."""
    return "\n\n".join(_parts()) + "\n"
