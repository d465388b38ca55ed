"""From a checkpoint to the folder of an exported model."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UsageError
from ..files import read_json_if_there, replace_folder, sha256
from ..models.hub import find_checkpoint
from ..models.vq_nat import VQNAT
from ..runtime.exported import CONFIG, DICTIONARIES, KIND, file_names, write_config
from ..runtime.translator import Translator
from ..text.pipeline import FILE_NAME as TEXT
from .comparison import compare
from .translation import build_graphs

SIZES = ("embed_dim", "attention_heads", "predictor_layers", "codebook_size", "compress_steps")


def export(
    checkpoint: Path,
    out: Path,
    precision: str = "int8",
    data: Path | None = None,
    languages: tuple[str | None, str | None] = (None, None),
) -> dict[str, Any]:
    """Write a folder that `vqnat_plugin.runtime.Translator` loads; it is there whole or not at all.

    Args:
        checkpoint: of a translation model, or the folder that a training wrote.
        out: the folder to write; an exported model there is replaced.
        precision: `fp32`, or `int8` for weights of 8 bits.
        data: folder with the dictionaries and the validation set, if not that of the training.
        languages: of source and target, each None where checkpoint or data say it.

    Returns:
        What its `config.json` says.

    Raises:
        UsageError: `out` is in use for something else.
        DataError: the checkpoint, a dictionary or the languages are missing, or the text pipeline is damaged.
        CheckpointError: the checkpoint cannot be read, or is of another kind of model.
    """
    _require_free(out)
    path = find_checkpoint(checkpoint)
    named = dict(zip(("source_lang", "target_lang"), languages, strict=True))
    given = {name: language for name, language in named.items() if language is not None}
    hub = VQNAT.from_pretrained(path, data_name_or_path=data, **given)
    config: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        config.update(_write(hub, path, folder, precision))
        write_config(folder, config)
        config["comparison"] = compare(hub, Translator(folder))
        write_config(folder, config)

    replace_folder(out, fill)
    return config


def _require_free(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        config = read_json_if_there(out / CONFIG)
        if config is None or config.get("kind") != KIND:
            raise UsageError(f"--out {out}: is not empty, and no exported model; name a new folder")
    elif out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is no folder")


def _write(hub: Any, checkpoint: Path, folder: Path, precision: str) -> dict[str, Any]:
    """All other files; what `config.json` is to say of them."""
    [model], task = hub.models, hub.task
    for name, graph in build_graphs(model, precision).items():
        graph.save(folder / f"{name}.onnx")
    data, languages = Path(task.cfg.data), {"source": task.cfg.source_lang, "target": task.cfg.target_lang}
    for side, language in languages.items():
        shutil.copyfile(data / f"dict.{language}.txt", folder / DICTIONARIES[side])
    text = (data / TEXT).is_file()
    if text:
        shutil.copyfile(data / TEXT, folder / TEXT)
    options = dataclasses.asdict(model.config)
    return {
        "version": __version__,
        "precision": precision,
        "source_lang": languages["source"],
        "target_lang": languages["target"],
        "max_source_positions": hub.max_positions[0],
        "sizes": {**{name: options[name] for name in SIZES}, "target_symbols": len(task.target_dictionary)},
        "checkpoint": {"name": checkpoint.name, "sha256": sha256(checkpoint)},
        "model": {name: value for name, value in options.items() if not name.startswith("_")},
        "files": {name: sha256(folder / name) for name in file_names(text)},
    }
