"""The archives of WMT14 and IWSLT14, turned into a folder of parallel text for `scripts/prepare.py`."""

import gzip
import html
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from ..errors import DataError

# Lines of these elements in IWSLT's training text are no sentences.
METADATA = ("doc", "keywords", "reviewer", "speaker", "talkid", "translator", "url")


def clean(text: str) -> str:
    """One line, blanks for all white space and control characters, none at the ends."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()


def unescape(text: str) -> str:
    """Undo XML's five entities and numbered characters; any other `&` stands for itself."""
    known = r"&(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);"
    return re.sub(known, lambda found: html.unescape(found[0]), text)


def plain_lines(path: Path) -> Iterator[str]:
    """The sentences of a file with one a line."""
    # Only \n ends a line: other characters that Python calls line ends occur inside sentences.
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield clean(line)


def tagged_lines(path: Path) -> Iterator[str]:
    """The sentences of IWSLT's training text, titles and descriptions of the talks among them."""
    for line in plain_lines(path):
        tagged = re.fullmatch(r"</?(\w+)[^<>]*>(?:(.*)</\1>)?", line)
        if tagged and tagged[1] in ("title", "description"):
            line = tagged[2] or ""
        elif tagged and tagged[1] in METADATA:
            continue
        yield clean(unescape(line))


class _Segments(HTMLParser):
    """Collects the text of `<seg>` elements.

    Test sets are SGML or XML by name, but not always well-formed: this parser lets them pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "seg":
            if self.inside:
                raise DataError(f"segment {len(self.texts)} has no end")
            self.inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "seg":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def segments(path: Path) -> Iterator[str]:
    """The sentences of a test set in the format of NIST's mteval (SGML or XML): its `<seg>` elements."""
    parser = _Segments()
    # The parser would take any &name for one of HTML's 2,231 entities: they are left to `unescape`.
    parser.feed(path.read_text(encoding="utf-8").replace("&", "&amp;"))
    parser.close()
    for text in parser.texts:
        yield clean(unescape(text))


@dataclass(frozen=True)
class Part:
    """Two files of parallel text in an archive, and what reads their sentences."""

    archive: str
    source: str
    target: str
    read: Callable[[Path], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """What a corpus is made of.

    Attributes:
        source, target: languages.
        train, valid, test: parts that are put together.
        held_out: every so many-th pair of train is moved to valid; 0 for none.
    """

    source: str
    target: str
    train: tuple[Part, ...]
    valid: tuple[Part, ...]
    test: tuple[Part, ...]
    held_out: int = 0


def _parallel(archive: str, stem: str) -> Part:
    return Part(archive, f"{stem}.en", f"{stem}.de", plain_lines)


def _iwslt(name: str, ending: str, read: Callable[[Path], Iterator[str]]) -> Part:
    return Part("de-en.tgz", f"de-en/{name}.de{ending}", f"de-en/{name}.en{ending}", read)


CORPORA = {
    # Training data as in most work on WMT14 since 2017; all 3,003 sentences of newstest2014.
    "wmt14_en_de": Corpus(
        source="en",
        target="de",
        train=(
            _parallel("training-parallel-europarl-v7.tgz", "training/europarl-v7.de-en"),
            _parallel("training-parallel-commoncrawl.tgz", "commoncrawl.de-en"),
            _parallel("training-parallel-nc-v9.tgz", "training/news-commentary-v9.de-en"),
        ),
        valid=(_parallel("dev.tgz", "dev/newstest2013"),),
        test=(
            Part(
                "test-full.tgz",
                "test-full/newstest2014-deen-src.en.sgm",
                "test-full/newstest2014-deen-ref.de.sgm",
                segments,
            ),
        ),
    ),
    # The usual split: every 23rd training pair for validation, five former development and test sets as test.
    "iwslt14_de_en": Corpus(
        source="de",
        target="en",
        train=(_iwslt("train.tags.de-en", "", tagged_lines),),
        valid=(),
        test=tuple(
            _iwslt(f"IWSLT14.{name}.de-en", ".xml", segments)
            for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
        ),
        held_out=23,
    ),
}


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
    counts = dict.fromkeys(("valid", "test", "train"), 0)
    with tempfile.TemporaryDirectory(dir=out, prefix="part-") as temporary:
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
        raise DataError(f"{part.archive}: {member}: {error}") from None


def _find(corpus: Corpus, archives: Path, folder: Path) -> dict[str, Path]:
    """Where each file of the corpus lies: in `archives` if unpacked there, else in `folder` from now on."""
    if not archives.is_dir():
        raise DataError(f"--archives {archives}: no such folder")
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
