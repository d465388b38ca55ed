"""From the archives of a corpus to a folder of parallel text, as `vqnat prepare` takes it."""

import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from ..errors import DataError
from .corpora import Corpus, Part

# What the name of a folder begins with that is not finished.
UNFINISHED = ".part-"


def make_corpus(corpus: Corpus, archives: Path, out: Path) -> dict[str, int]:
    """Write train, valid and test of a corpus, one file a language, one sentence a line.

    Training pairs of which one side is empty are left out; nothing else is filtered.

    Args:
        corpus: one of `CORPORA`.
        archives: folder of the archives, or of the files that they unpack to.
        out: folder of `train.LANG`, `valid.LANG` and `test.LANG`.

    Returns:
        Sentence pairs of each split.

    Raises:
        DataError: an archive or a file in it is missing or damaged, or two sides differ in length.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Of calls that were killed.
    for left_over in out.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left_over)
    counts = dict.fromkeys(("valid", "test", "train"), 0)
    with tempfile.TemporaryDirectory(dir=out, prefix=UNFINISHED) as temporary:
        files = _find(corpus, archives, Path(temporary))
        made = Path(temporary, "made")
        made.mkdir()
        with ExitStack() as stack:
            sides = {
                split: [
                    stack.enter_context((made / f"{split}.{language}").open("w", encoding="utf-8"))
                    for language in (corpus.source, corpus.target)
                ]
                for split in counts
            }
            for split, pair in _pairs(corpus, files):
                counts[split] += 1
                for side, text in zip(sides[split], pair, strict=True):
                    side.write(text + "\n")
        for split, pairs in counts.items():
            if not pairs:
                raise DataError(f"--archives {archives}: has no sentence pairs for {split}")
        # Train last: who finds it finds everything.
        for split in counts:
            for language in (corpus.source, corpus.target):
                os.replace(made / f"{split}.{language}", out / f"{split}.{language}")
    return counts


def _pairs(corpus: Corpus, files: dict[str, Path]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every sentence pair, after the name of the split that it belongs to."""
    number = 0
    for split, parts in (("train", corpus.train), ("valid", corpus.valid), ("test", corpus.test)):
        for part in parts:
            for pair in tqdm(_read(part, files), desc=f"{split}: {part.source}", mininterval=1):
                if split != "train":
                    yield split, pair
                elif all(pair):
                    number += 1
                    yield ("valid" if corpus.held_out and number % corpus.held_out == 0 else "train"), pair


def _read(part: Part, files: dict[str, Path]) -> Iterator[tuple[str, str]]:
    sides = (_sentences(part, member, files[member]) for member in (part.source, part.target))
    for source, target in zip_longest(*sides):
        if source is None or target is None:
            raise DataError(f"{part.archive}: {part.source} and {part.target} differ in length")
        yield source, target


def _sentences(part: Part, member: str, path: Path) -> Iterator[str]:
    try:
        yield from part.read(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{part.archive}: {member}: not UTF-8 ({error.reason})") from None
    except DataError as error:
        # Not where it was unpacked to.
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{part.archive}: {member}: {reason}") from None


def _find(corpus: Corpus, archives: Path, folder: Path) -> dict[str, Path]:
    """Where each file of the corpus lies: in `archives` if unpacked there, else in `folder` from now on."""
    files: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    for part in (*corpus.train, *corpus.valid, *corpus.test):
        for member in (part.source, part.target):
            files[member] = archives / member
            if not files[member].is_file():
                missing.setdefault(part.archive, []).append(member)
    for archive, members in missing.items():
        if not (archives / archive).is_file():
            raise DataError(f"--archives {archives}: needs {archive}, or {members[0]} out of it")
    for archive, members in missing.items():
        files |= _unpack(archives / archive, members, folder)
    return files


def _unpack(archive: Path, members: list[str], folder: Path) -> dict[str, Path]:
    """Unpack some members of an archive under names of our own, so that none can lie outside of `folder`."""
    found: dict[str, Path] = {}
    size = archive.stat().st_size
    try:
        with (
            archive.open("rb") as raw,
            tqdm.wrapattr(raw, "read", total=size, desc=archive.name, mininterval=1) as file,
            tarfile.open(fileobj=file, mode="r|*") as tar,
        ):
            for entry in tar:
                name = entry.name.removeprefix("./")
                content = tar.extractfile(entry) if name in members else None
                if content is not None:
                    found[name] = folder / f"{archive.name}.{len(found)}"
                    with found[name].open("wb") as target:
                        shutil.copyfileobj(content, target, 1 << 20)
                    if len(found) == len(members):
                        return found
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{archive}: damaged or incomplete ({error}); delete it and fetch it again") from None
    absent = next(member for member in members if member not in found)
    raise DataError(f"{archive}: holds no {absent}; is it another archive of the same name?")
