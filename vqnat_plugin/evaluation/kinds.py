"""The kinds of systems; which one a system is of shows in its files.

The module of a kind has `check(systems, data, languages)`, which looks before anything is decoded and
returns the languages, and `load(system, conditions, threads)`, which returns a `SubsetTranslator`. It is
imported when there is such a system: not everybody has all engines.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..runtime.exported import CONFIG
from .subset_translator import SubsetTranslator
from .systems import Conditions, System

FAIRSEQ, EXPORTED, CTRANSLATE2 = "fairseq", "exported", "CTranslate2"
KINDS = {
    FAIRSEQ: ".fairseq_translator",
    EXPORTED: ".exported_translator",
    CTRANSLATE2: ".ctranslate2_translator",
}


def kind_of(system: System) -> str:
    """One of `KINDS`.

    Raises:
        DataError: a folder is of none of them.
    """
    system.require_files()
    folders = [path for path in map(Path, system.checkpoints) if path.is_dir()]
    if not folders:
        return FAIRSEQ
    folder = folders[0]
    if len(system.checkpoints) > 1:
        raise DataError(f"system {system.name}: {folder}: is a folder; an ensemble is made of checkpoints")
    if (folder / "model.bin").exists() or any(folder.glob("*_vocabulary.*")):
        return CTRANSLATE2
    if (folder / CONFIG).exists() or any(folder.glob("*.onnx")):
        return EXPORTED
    raise DataError(
        f"system {system.name}: {folder}: a model neither of 'vqnat export' nor of 'vqnat benchmark "
        "--convert'; of the folder of a training, name the checkpoint in it"
    )


def check_systems(systems: Sequence[System], conditions: Conditions) -> Conditions:
    """See, before anything is decoded, whether systems can be what they are declared as.

    Returns:
        The conditions, with the languages.

    Raises:
        DataError: a file is missing or damaged, or the data of other languages or dictionaries.
        CheckpointError: a checkpoint cannot be read, is no translation model, or has other dictionaries.
        UsageError: a system has an option that its kind does not know.
    """
    kinds = [kind_of(system) for system in systems]
    languages = (conditions.source_lang, conditions.target_lang)
    for kind in KINDS:
        of_kind = [system for system, own in zip(systems, kinds, strict=True) if own == kind]
        if of_kind:
            languages = _module(kind).check(of_kind, conditions.data, languages)
    source, target = languages
    return dataclasses.replace(conditions, source_lang=source, target_lang=target)


def load(system: System, conditions: Conditions, threads: int = 0) -> SubsetTranslator:
    """Load a system that has been checked.

    Args:
        system: as declared.
        conditions: with the languages.
        threads: of an engine that has its own; 0 for all. Those of torch are torch's.

    Raises:
        DataError: the subset is missing, empty, or of longer sentences than the model reads.
        CheckpointError: a checkpoint cannot be read, or does not fit the data's dictionaries.
    """
    found: SubsetTranslator = _module(kind_of(system)).load(system, conditions, threads)
    return found


def _module(kind: str) -> Any:
    return importlib.import_module(KINDS[kind], __package__)
