"""From a checkpoint to the folder of an exported model."""

import dataclasses
import shutil
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UsageError
from ..files import replace_folder
from ..generation.rescoring import load_rescorer
from ..models.hub import find_checkpoint
from ..models.vq_nat import VQNAT
from ..reading import read_json_if_there, sha256
from ..runtime.exported import (
    CONFIG,
    DICTIONARIES,
    KIND,
    LONGEST,
    MOST_WIDTH,
    SIZES,
    USUAL,
    file_names,
    write_config,
)
from ..runtime.translator import Translator
from ..text.pipeline import FILE_NAME as TEXT
from .comparison import compare
from .data import usual_length, validation_pairs
from .teacher import build_teacher, check_teacher
from .translation import build_graphs


def export(
    checkpoint: Path,
    out: Path,
    precision: str = "int8",
    data: Path | None = None,
    languages: tuple[str | None, str | None] = (None, None),
    teacher: Path | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Write a folder that `vqnat_plugin.runtime.Translator` loads; it is there whole or not at all.

    Args:
        checkpoint: of a translation model, or the folder that a training wrote.
        out: the folder to write; an exported model there is replaced.
        precision: `fp32`, or `int8` for weights of 8 bits.
        data: folder with the dictionaries and the validation set, if not that of the training.
        languages: of source and target, each None where checkpoint or data say it.
        teacher: an autoregressive Transformer of fairseq that is to rank candidates and to check
            translations, likewise.
        tell: told what is being done, a line each time.

    Returns:
        What its `config.json` says.

    Raises:
        UsageError: `out` is in use for something else.
        DataError: a checkpoint, a dictionary or the languages are missing, or the text pipeline is damaged.
        CheckpointError: a checkpoint cannot be read, or is of another kind of model.
    """
    _require_free(out)
    path = find_checkpoint(checkpoint)
    teacher = None if teacher is None else find_checkpoint(teacher)
    named = dict(zip(("source_lang", "target_lang"), languages, strict=True))
    given = {name: language for name, language in named.items() if language is not None}
    hub = VQNAT.from_pretrained(path, data_name_or_path=data, **given)
    [model] = hub.models
    pairs, usual = validation_pairs(hub), usual_length(hub)
    ranker: Any = None
    if teacher is not None:
        ranker = load_rescorer(teacher, model, hub.task, "--with-teacher")
        check_teacher(ranker, f"--with-teacher {teacher}")
    config: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        tell(f"writing the graphs of {path} in {precision}")
        for name, graph in build_graphs(model, precision).items():
            graph.save(folder / f"{name}.onnx")
        if ranker is not None:
            tell(f"writing those of {teacher}")
            for name, graph in build_teacher(ranker, precision).items():
                graph.save(folder / f"{name}.onnx")
        text = _copy_text(hub.task, folder)
        config.update(_describe(hub, path, precision))
        config[USUAL] = usual
        config["teacher"] = None
        if ranker is not None and teacher is not None:
            longest = min(int(ranker.max_decoder_positions()), MOST_WIDTH)
            config["teacher"] = {**_origin(teacher), LONGEST: longest}
        config["files"] = {name: sha256(folder / name) for name in file_names(text, teacher is not None)}
        write_config(folder, config)
        config["comparison"] = compare(hub, Translator(folder), pairs, teacher, tell)
        write_config(folder, config)
        # Meanwhile somebody may have put something there.
        _require_free(out)

    replace_folder(out, fill)
    return config


def _require_free(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        config = read_json_if_there(out / CONFIG) if (out / CONFIG).is_file() else None
        if config is None or config.get("kind") != KIND:
            raise UsageError(f"--out {out}: is not empty, and no exported model; name a new folder")
        strange = {path.name for path in out.iterdir()} - {CONFIG, *file_names(text=True, teacher=True)}
        if strange:
            raise UsageError(
                f"--out {out}: would be replaced, but '{min(strange)}' in it is no part of an exported "
                "model; move that elsewhere, or name a new folder"
            )
    elif out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is no folder")


def _copy_text(task: Any, folder: Path) -> bool:
    """Copy the dictionaries and, if there is one, the text pipeline; whether there is one."""
    data = Path(task.cfg.data)
    for side, language in (("source", task.cfg.source_lang), ("target", task.cfg.target_lang)):
        shutil.copyfile(data / f"dict.{language}.txt", folder / DICTIONARIES[side])
    text = (data / TEXT).is_file()
    if text:
        shutil.copyfile(data / TEXT, folder / TEXT)
    return text


def _describe(hub: Any, checkpoint: Path, precision: str) -> dict[str, Any]:
    """What `config.json` says of the model."""
    [model], task = hub.models, hub.task
    options = dataclasses.asdict(model.config)
    sizes = {**options, "target_symbols": len(task.target_dictionary)}
    return {
        "version": __version__,
        "precision": precision,
        "source_lang": task.cfg.source_lang,
        "target_lang": task.cfg.target_lang,
        "max_source_positions": hub.max_positions[0],
        "sizes": {name: sizes[name] for name in SIZES},
        "checkpoint": _origin(checkpoint),
        # The paper's architecture leaves defaults that are members of fairseq's enumerations. Where a file
        # was when the model was trained says nothing elsewhere.
        "model": {
            name: value.value if isinstance(value, Enum) else value
            for name, value in options.items()
            if not name.startswith("_") and name != "init_from_teacher"
        },
    }


def _origin(checkpoint: Path) -> dict[str, str]:
    return {"name": checkpoint.name, "sha256": sha256(checkpoint)}
