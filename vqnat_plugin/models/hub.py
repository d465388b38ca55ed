"""What belongs to a checkpoint: its file in a folder, its dictionaries, its text pipeline."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fairseq.data.data_utils import infer_language_pair
from fairseq.data.encoders import BPE_REGISTRY, TOKENIZER_REGISTRY

from ..errors import CheckpointError, DataError, UsageError
from ..text.pipeline import FILE_NAME
from .checkpoints import training_data

# What a training writes, the best first.
CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt")
# Where dictionaries may lie, from the folder of the checkpoint and from the two above it.
DATA = (".", "data/bin", "bin", "data", "data-bin")
# Sentences of a batch, in tokens, as in fairseq-generate.
MAX_TOKENS = 12000


def find_checkpoint(place: Path, name: str | None = None) -> Path:
    """The checkpoint itself, or that of this name in a folder: the best, else the last one.

    Raises:
        DataError: there is none.
    """
    if place.is_file() and name is None:
        return place
    names = CHECKPOINTS if name is None else (name,)
    found = next((place / each for each in names if (place / each).is_file()), None)
    if found is None:
        raise DataError(f"{place}: has no {' and no '.join(names)}")
    return found


def require_options(path: Path, config: Any, given: Iterable[str]) -> None:
    """Raise `UsageError` for an option that neither a checkpoint has nor what makes tokens of text.

    Args:
        path: of the checkpoint.
        config: its options, by fairseq's groups.
        given: names.
    """
    kinds = [*TOKENIZER_REGISTRY.values(), *BPE_REGISTRY.values()]
    of_text = [kind for each in kinds if (kind := getattr(each, "__dataclass", None))]
    known = {
        *(name for group in config.values() for name in group or ()),
        *config.keys(),
        *(field.name for kind in of_text for field in fields(kind)),
    }
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(
                f"{path}: was trained without an option '{name}'" + (f"; is {near[0]} meant?" if near else "")
            )


@dataclass
class Belongings:
    """What a translation model needs beside its checkpoint.

    Attributes:
        data: folder with the dictionaries.
        languages: of source and target.
        text: the text pipeline beside the dictionaries, if there is one.
    """

    data: Path
    languages: tuple[str, str]
    text: Path | None

    @classmethod
    def find(
        cls, checkpoint: Path, task: Any, data: Path | None = None, languages: tuple[Any, Any] = (None, None)
    ) -> "Belongings":
        """Look where the model was trained, then beside the checkpoint, or only in `data`.

        Args:
            checkpoint: its file.
            task: the options of its task.
            data: folder with the dictionaries, if it is known.
            languages: of source and target, each None where it is not known.

        Raises:
            DataError: a dictionary is missing, or the languages are not known.
            CheckpointError: the model translates other languages.
        """
        own = task.source_lang, task.target_lang
        if None in own and training_data(task).is_dir():
            own = infer_language_pair(str(training_data(task)))
        for language, trained in zip(languages, own, strict=True):
            if None not in (language, trained) and language != trained:
                raise CheckpointError(
                    f"{checkpoint}: translates {own[0]}-{own[1]}, not from or to {language}"
                )
        source, target = languages[0] or own[0], languages[1] or own[1]
        names = [f"dict.{language or '*'}.txt" for language in (source, target)]
        parents = checkpoint.resolve().parents[:3]
        beside = [parent / name for parent in parents for name in DATA]
        folders = [data] if data is not None else [training_data(task), *beside]
        found = next((each for each in folders if all(any(each.glob(name)) for name in names)), None)
        if found is None:
            shown = ", ".join(map(str, folders[:3])) + (", ... " if len(folders) > 3 else "")
            needed = " and ".join(dict.fromkeys(name.replace("*", "LANGUAGE") for name in names))
            raise DataError(
                f"{checkpoint}: needs {needed} from the folder of its binarised training data; looked in "
                f"{shown}(say where it is: with --data or DATA, in Python data_name_or_path)"
            )
        if source is None or target is None:
            source, target = infer_language_pair(str(found))
        if source is None or target is None:
            raise DataError(
                f"{found}: does not say the languages of the model: give source_lang and target_lang"
            )
        found = found.resolve()
        text = found / FILE_NAME
        return cls(found, (source, target), text if text.is_file() else None)

    def overrides(self) -> dict[str, Any]:
        """The options of fairseq that make it use them."""
        source, target = self.languages
        options: dict[str, Any] = {"source_lang": source, "target_lang": target}
        options |= {"max_tokens": MAX_TOKENS, "batch_size": None}
        if self.text is not None:
            options |= {"tokenizer": "vqnat", "text_pipeline": str(self.text), "bpe": None}
        return options
