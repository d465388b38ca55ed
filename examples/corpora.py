"""From the archives of WMT14 or IWSLT14 to a folder of parallel text, as `vqnat prepare` takes it.

wmt14_en_de: Europarl v7, Common Crawl and News Commentary v9; newstest2013 for validation, all 3,003
sentences of newstest2014 as the test set. iwslt14_de_en: TED talks; every 23rd training pair for validation,
five former development and test sets as the test set. Training pairs with an empty side are left out.
"""

import argparse
import gzip
import html
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from vqnat_plugin.errors import DataError, one_line
from vqnat_plugin.files import alone, write_lines
from vqnat_plugin.reading import read_lines, read_text
from vqnat_plugin.text.normalize import single_blanks

# Lines of these elements in IWSLT's training text are no sentences.
METADATA = ("doc", "keywords", "reviewer", "speaker", "talkid", "translator", "url")


def unescape(text: str) -> str:
    """Undo XML's five entities and numbered characters; any other `&` stands for itself."""
    known = r"&(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);"
    return re.sub(known, lambda found: html.unescape(found[0]), text)


def plain_lines(path: Path) -> Iterator[str]:
    """The sentences of a file with one a line."""
    return map(single_blanks, read_lines(path))


def tagged_lines(path: Path) -> Iterator[str]:
    """The sentences of IWSLT's training text, titles and descriptions of the talks among them."""
    for line in plain_lines(path):
        tagged = re.fullmatch(r"</?(\w+)[^<>]*>(?:(.*)</\1>)?", line)
        if tagged and tagged[1] in ("title", "description"):
            line = tagged[2] or ""
        elif tagged and tagged[1] in METADATA:
            continue
        yield single_blanks(unescape(line))


def segments(path: Path) -> Iterator[str]:
    """The sentences of a test set in the format of NIST's mteval (SGML or XML): its `<seg>` elements."""
    for text in re.findall(r"<seg\b[^>]*>(.*?)</seg>", read_text(path), re.DOTALL | re.IGNORECASE):
        yield single_blanks(unescape(re.sub(r"</?\w[^<>]*>", "", text)))


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
    """Write train, valid and test of a corpus, one file a language, one sentence a line; their sizes.

    Raises:
        DataError: an archive or a file in it is missing or damaged, or two sides differ in length.
    """
    splits: dict[str, list[tuple[str, str]]] = {"valid": [], "test": [], "train": []}
    folder = out / ".unpacked"
    # Of a call that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for part in corpus.valid + corpus.test + corpus.train:
            _unpack(archives / part.archive, (part.source, part.target), folder)
        for split in splits:
            for part in getattr(corpus, split):
                splits[split] += tqdm(_pairs(part, folder), desc=f"{split}: {part.source}", mininterval=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    train = [pair for pair in splits["train"] if all(pair)]
    if corpus.held_out:
        splits["valid"] = train[corpus.held_out - 1 :: corpus.held_out]
        del train[corpus.held_out - 1 :: corpus.held_out]
    splits["train"] = train
    if empty := [split for split, pairs in splits.items() if not pairs]:
        raise DataError(f"--archives {archives}: has no sentence pairs for {empty[0]}")
    # Train last: who finds it finds everything.
    for split, pairs in splits.items():
        for side, language in enumerate((corpus.source, corpus.target)):
            write_lines(out / f"{split}.{language}", [pair[side] for pair in pairs])
    return {split: len(pairs) for split, pairs in splits.items()}


def _pairs(part: Part, folder: Path) -> Iterator[tuple[str, str]]:
    try:
        for source, target in zip_longest(part.read(folder / part.source), part.read(folder / part.target)):
            if source is None or target is None:
                raise DataError(f"{part.source} and {part.target} differ in length")
            yield source, target
    except DataError as error:
        # Where it was unpacked to, it is no longer.
        raise DataError(f"{part.archive}: {str(error).removeprefix(f'{folder}/')}") from None


def _unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                if entry.name.removeprefix("./") in members:
                    tar.extract(entry, folder, filter="data")
    except (tarfile.TarError, FileNotFoundError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: missing, damaged or incomplete ({error}); fetch it again") from None
    for member in members:
        if not (folder / member).is_file():
            raise DataError(f"{archive}: holds no {member}; is it another archive of the same name?")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--archives", type=Path, required=True, metavar="DIR", help="folder of the archives")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    options = parser.parse_args()
    with one_line(parser.prog), alone(options.out):
        for split, pairs in make_corpus(CORPORA[options.corpus], options.archives, options.out).items():
            print(f"{split}: {pairs:,} sentence pairs")


if __name__ == "__main__":
    main()
