"""What WMT14 and IWSLT14 consist of: files in archives, and how their sentences are read."""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from ..errors import DataError
from ..reading import read_text

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
    # One at a time, for these files are large; as everywhere, only \n ends a line.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
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
    parser.feed(read_text(path).replace("&", "&amp;"))
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
