"""From finished chunks to a data set: every training sentence once, translated or listed with a reason.

What is kept in memory for each sentence pair is about 30 bytes of numbers, whatever its length: 50 million
pairs take 1.5 GB. Tokens stay in files, which the system maps into what memory it has; translations, 4 bytes
a token, in one that has no name and is gone with the process. A corpus for which that is too much is better
cut into shards beforehand, each binarised with the same dictionaries and distilled into a folder of its own:
fairseq-train takes them joined by ':', one an epoch.
"""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..errors import DataError
from ..machine import describe_versions
from ..reading import sha256
from .chunks import ChunkStore
from .corpus import ParallelData, Sentences, write_sentences
from .filters import EMPTY_SOURCE, REASONS, as_recorded, reason_against
from .settings import DistillOptions
from .workspace import Workspace

# What is recorded of a translation that is kept; of others, the place in REASONS.
KEPT = len(REASONS)


@dataclasses.dataclass(frozen=True)
class Translations:
    """The teacher's translations of a whole corpus.

    Attributes:
        tokens: of all, in any order, int32; in a file.
        starts, lengths: where those of each sentence are; the length is -1 where the teacher was not asked.
        seconds: what translating took.
    """

    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    seconds: float

    def __getitem__(self, index: int) -> np.ndarray | None:
        """Token ids without EOS, or None where the teacher was not asked."""
        if self.lengths[index] < 0:
            return None
        start = self.starts[index]
        return self.tokens[start : start + self.lengths[index]]


def collect(chunks: ChunkStore, count: int, sentences: int, symbols: int) -> Translations:
    """Read `count` chunks that together hold each of `sentences` sentences exactly once.

    Args:
        chunks: where they are.
        count: of chunks.
        sentences: of the training set.
        symbols: of the target dictionary.

    Raises:
        DataError: a sentence is missing, or there twice; or a chunk belongs to other data.
    """
    starts, lengths = np.zeros(sentences, np.int64), np.zeros(sentences, np.int32)
    seen = np.zeros(sentences, np.uint8)
    total, seconds = 0, 0.0
    with tempfile.TemporaryFile(dir=chunks.folder) as file:
        for number in range(count):
            chunk = chunks.read(number)
            if not chunk.fits(sentences, symbols):
                raise DataError(f"{chunks.path(number)}: a chunk of other data; delete it and run again")
            np.add.at(seen, chunk.indices, 1)
            for index, output in zip(chunk.indices, chunk.outputs, strict=True):
                lengths[index] = -1 if output is None else len(output)
                if output is not None:
                    starts[index] = total
                    file.write(output.astype(np.int32).tobytes())
                    total += len(output)
            seconds += chunk.seconds
        file.flush()
        # An empty file cannot be mapped.
        tokens = np.asarray(np.memmap(file, np.int32, mode="r")) if total else np.empty(0, np.int32)
    if not (seen == 1).all():
        wrong = int(np.flatnonzero(seen != 1)[0])
        raise DataError(
            f"{chunks.folder}: training sentence {wrong} was translated {seen[wrong]} times instead of once; "
            "begin anew with --restart"
        )
    return Translations(tokens, starts, lengths, seconds)


def choices(options: DistillOptions, data: ParallelData) -> dict[str, Any]:
    """What else decides what is written, besides the translations."""
    return {
        "filters": as_recorded(options),
        "filtered_fallback": options.filtered_fallback,
        "mix": options.mix,
        "other_splits": [sha256(*data.other_splits()), *(path.name for path in data.other_splits())],
    }


def merge(
    options: DistillOptions, data: ParallelData, sentences: Sentences, workspace: Workspace, chunks: int
) -> None:
    """Put the finished chunks together and publish the data set, unless another rank already has."""
    with workspace.merging() as stage:
        if workspace.is_finished(choices(options, data)):
            return
        started = time.monotonic()
        translations = collect(workspace.chunks, chunks, len(sentences), len(sentences.target_dictionary))
        reasons = _write_texts(options, sentences, translations, stage, data.target_lang)
        pairs = _pairs(options, reasons)
        for language in (data.source_lang, data.target_lang):
            _write_side(stage, data, sentences, translations, pairs, language)
        for file in [*data.dictionary_files(), *data.text_pipeline(), *data.other_splits()]:
            shutil.copyfile(file, stage / file.name)
        manifest = _manifest(options, data, translations, sentences, reasons, len(pairs[0]))
        manifest["seconds"]["merging"] = round(time.monotonic() - started, 1)
        workspace.publish(stage, manifest)


def _write_texts(
    options: DistillOptions, sentences: Sentences, translations: Translations, stage: Path, target_lang: str
) -> np.ndarray:
    """Write `train.distilled.TGT` and `filtered.tsv`.

    Returns:
        For each translation KEPT, or which of REASONS is against it: uint8 (sentences,).
    """
    reasons = np.full(len(sentences), KEPT, np.uint8)
    with (
        (stage / f"train.distilled.{target_lang}").open("w", encoding="utf-8") as text,
        (stage / "filtered.tsv").open("w", encoding="utf-8") as filtered,
    ):
        filtered.write("index\treason\tsource\tteacher\n")
        for index in tqdm(range(len(sentences)), desc="filter", unit="sent", disable=None):
            output = translations[index]
            source = [sentences.source_dictionary[token] for token in sentences.source_words(index)]
            words = [
                sentences.target_dictionary[token] for token in (() if output is None else output.tolist())
            ]
            reason = reason_against(options, source, None if output is None else words)
            text.write(" ".join(words) + "\n")
            if reason is not None:
                reasons[index] = REASONS.index(reason)
                filtered.write(f"{index}\t{reason}\t{' '.join(source)}\t{' '.join(words)}\n")
    return reasons


def _counts(reasons: np.ndarray) -> dict[str, int]:
    """How many translations each reason is against."""
    counts = {name: int(np.count_nonzero(reasons == number)) for number, name in enumerate(REASONS)}
    return {name: count for name, count in sorted(counts.items()) if count}


def _pairs(options: DistillOptions, reasons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training pairs to write: sentence indices, and for each whether the target is the teacher's."""
    good = reasons == KEPT
    # There is nothing to learn from an empty source, whoever translated it.
    usable = np.flatnonzero(reasons != REASONS.index(EMPTY_SOURCE)).astype(np.int32)
    if not len(usable):
        raise DataError(f"--data {options.data}: every source of the training set is empty")
    distilled = usable if options.filtered_fallback == "raw" else usable[good[usable]]
    human = usable if options.mix == "both" else usable[:0]
    if not len(human) + len(distilled):
        counts = ", ".join(f"{count} {reason}" for reason, count in _counts(reasons).items())
        raise DataError(
            f"the filters leave nothing ({counts}); loosen --filter-*, or use --filtered-fallback raw"
        )
    return np.concatenate([human, distilled]), np.concatenate([np.zeros(len(human), bool), good[distilled]])


def _write_side(
    stage: Path,
    data: ParallelData,
    sentences: Sentences,
    translations: Translations,
    pairs: tuple[np.ndarray, np.ndarray],
    language: str,
) -> None:
    is_source = language == data.source_lang
    dictionary = sentences.source_dictionary if is_source else sentences.target_dictionary
    human = sentences.source if is_source else sentences.target
    eos = sentences.target_dictionary.eos()

    def rows() -> Iterator[torch.Tensor]:
        bar = tqdm(zip(*pairs, strict=True), f"write {language}", len(pairs[0]), unit="sent", disable=None)
        for index, distilled in bar:
            output = translations[index] if distilled and not is_source else None
            if output is None:
                yield human[int(index)]
            else:
                yield torch.from_numpy(np.append(output, eos).astype(np.int64))

    write_sentences(stage / f"train.{data.pair}.{language}", rows(), len(dictionary))


def _manifest(
    options: DistillOptions,
    data: ParallelData,
    translations: Translations,
    sentences: Sentences,
    reasons: np.ndarray,
    out: int,
) -> dict[str, Any]:
    return {
        "counts": {
            "in": len(sentences),
            "out": out,
            "distilled": int(np.count_nonzero(reasons == KEPT)),
            "filtered": _counts(reasons),
        },
        "teacher": [{"path": str(path.resolve()), "sha256": sha256(path)} for path in options.teachers],
        "data": str(options.data.resolve()),
        "options": choices(options, data),
        "seconds": {"decoding": round(translations.seconds, 1)},
        "versions": describe_versions(),
    }
