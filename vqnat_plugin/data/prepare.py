"""From a folder of parallel text to binarised data: Moses tokens, joint BPE, fairseq's binary format."""

import functools
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from fairseq import options
from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe
from tqdm import tqdm

from ..errors import DataError
from ..files import read_lines, write_lines, write_text

VALID_NAMES = ("valid", "val", "dev")


@dataclass(frozen=True)
class Split:
    """One pair of files and the name of its subset in the binarised data."""

    subset: str
    source: Path
    target: Path


def find_splits(data: Path, source: str, target: str) -> list[Split]:
    """Find `train`, `valid` (or `val`, `dev`) and every `test*` among the files of `data`.

    Raises:
        DataError: a split or one side of it is missing.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")

    def pair(subset: str, *names: str) -> Split:
        for name in names:
            files = data / f"{name}.{source}", data / f"{name}.{target}"
            if all(file.is_file() for file in files):
                return Split(subset, *files)
        raise DataError(f"--data {data}: needs {names[0]}.{source} and {names[0]}.{target}")

    splits = [pair("train", "train"), pair("valid", *VALID_NAMES)]
    # Without any, `pair` says what is missing.
    tests = sorted(file.stem for file in data.glob(f"test*.{source}")) or ["test"]
    return splits + [pair(f"test{number or ''}", name) for number, name in enumerate(tests)]


def read_pairs(split: Split) -> list[tuple[str, str]]:
    """The sentence pairs of a split.

    Raises:
        DataError: the files differ in length, or are not UTF-8.
    """
    source, target = read_lines(split.source), read_lines(split.target)
    if len(source) != len(target):
        raise DataError(f"{split.source} has {len(source)} lines but {split.target} has {len(target)}")
    if not source:
        raise DataError(f"{split.source}: empty")
    return list(zip(source, target, strict=True))


def numbered_references(target: Path) -> dict[int, Path]:
    """Further references beside `test.de`, by their number: `test.de.1`, `test.de.2`, ..."""
    found = {}
    for file in target.parent.iterdir():
        number = file.name.removeprefix(f"{target.name}.")
        if file.name != number and re.fullmatch(r"[1-9][0-9]*", number) and file.is_file():
            found[int(number)] = file
    return dict(sorted(found.items()))


def _write_references(split: Split, pairs: Sequence[tuple[str, str]], folder: Path) -> None:
    """Raw text of both sides, and further references, as `SUBSET.LANG` and `SUBSET.LANG.1`, ..."""
    for file, side in zip((split.source, split.target), zip(*pairs, strict=True), strict=True):
        write_lines(folder / f"{split.subset}{file.suffix}", side)
    out = folder / f"{split.subset}{split.target.suffix}"
    for left_over in numbered_references(out).values():
        left_over.unlink()
    for number, file in numbered_references(split.target).items():
        lines = read_lines(file)
        if len(lines) != len(pairs):
            raise DataError(f"{split.target} has {len(pairs)} lines but {file} has {len(lines)}")
        write_lines(folder / f"{out.name}.{number}", lines)


@functools.cache
def _moses(language: str) -> tuple[MosesPunctNormalizer, MosesTokenizer]:
    return MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)


def tokenize(line: str, language: str) -> str:
    """Moses normalisation and tokenisation of one sentence, as `--tokenizer moses` undoes it."""
    normalizer, tokenizer = _moses(language)
    # Control characters would end up as tokens of their own, or split a line in two.
    clean = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", line)
    return tokenizer.tokenize(normalizer.normalize(clean), return_str=True, aggressive_dash_splits=True)


@functools.cache
def _bpe(codes: Path) -> BPE:
    with codes.open(encoding="utf-8") as file:
        return BPE(file)


def _segment(line: str, codes: Path) -> str:
    return _bpe(codes).process_line(line)


Mapping = Callable[[Callable[[str], str], list[str], str], list[str]]


@contextmanager
def mapping(workers: int) -> Iterator[Mapping]:
    """A function that maps lines to lines, in order, in so many processes, with a labelled progress bar."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # Processes start with the first task.
        spread = functools.partial(pool.map, chunksize=1000)

        def each(function: Callable[[str], str], lines: list[str], label: str) -> list[str]:
            found = map(function, lines) if workers == 1 else spread(function, lines)
            return list(tqdm(found, desc=label, total=len(lines), mininterval=1))

        yield each


def usable(source: str, target: str, max_length: int, max_ratio: float) -> bool:
    """Whether a tokenised training pair is neither empty nor too long nor too lopsided."""
    lengths = len(source.split()), len(target.split())
    shorter, longer = sorted(lengths)
    return shorter > 0 and longer <= max_length and longer <= max_ratio * shorter


def learn_codes(lines: Iterable[str], merges: int) -> str:
    """The BPE merges of a text (Sennrich et al., 2016), in subword-nmt's format."""
    codes = io.StringIO()
    learn_bpe(lines, codes, num_symbols=merges, min_frequency=2)
    return codes.getvalue()


def prepare(
    data: Path,
    out: Path,
    source: str,
    target: str,
    merges: int = 8000,
    max_length: int = 175,
    max_ratio: float = 2.5,
    workers: int = 1,
) -> dict[str, int]:
    """Tokenise, segment and binarise the parallel text in `data`, in `workers` processes.

    Writes `out/bpe/SUBSET.LANG` (segmented text), `out/bpe.codes`, `out/reference/SUBSET.LANG` (raw text of
    valid and test, for scoring; `SUBSET.LANG.1`, ... if there are further references) and `out/bin` (for
    `fairseq-train`). Training pairs that are empty, longer than `max_length` tokens or more lopsided than
    `max_ratio` are left out; valid and test stay whole.

    Returns:
        Sentence pairs of each subset.

    Raises:
        DataError: see `find_splits` and `read_pairs`; or another reference is of another length.
    """
    languages = (source, target)
    texts: dict[str, list[tuple[str, str]]] = {}
    with mapping(workers) as each:
        for split in find_splits(data, source, target):
            pairs = read_pairs(split)
            if split.subset != "train":
                _write_references(split, pairs, out / "reference")
            sides: list[list[str]] = []
            for language, side in zip(languages, zip(*pairs, strict=True), strict=True):
                tokenizer = functools.partial(tokenize, language=language)
                sides.append(each(tokenizer, list(side), f"tokenise {split.subset}.{language}"))
            texts[split.subset] = list(zip(*sides, strict=True))
        texts["train"] = [pair for pair in texts["train"] if usable(*pair, max_length, max_ratio)]
        if not texts["train"]:
            raise DataError(
                f"--data {data}: no usable training pair (--max-length {max_length}, --max-ratio {max_ratio})"
            )

        print(f"learning {merges} BPE merges", flush=True)
        codes = out / "bpe.codes"
        write_text(codes, learn_codes((line for pair in texts["train"] for line in pair), merges))
        _bpe.cache_clear()  # an earlier call may have written other merges there
        segment = functools.partial(_segment, codes=codes)
        for subset, pairs in texts.items():
            for language, side in zip(languages, zip(*pairs, strict=True), strict=True):
                segmented = each(segment, list(side), f"segment {subset}.{language}")
                write_lines(out / "bpe" / f"{subset}.{language}", segmented)
    binarize(out / "bpe", out / "bin", source, target, list(texts), workers)
    return {subset: len(pairs) for subset, pairs in texts.items()}


def binarize(text: Path, out: Path, source: str, target: str, subsets: list[str], workers: int) -> None:
    """Binarise segmented text with `fairseq-preprocess`, one dictionary for both sides; replaces `out`."""
    # Not at the top: it configures the root logger when imported.
    from fairseq_cli import preprocess

    part = out.with_name(out.name + ".part")
    if part.is_symlink():
        part.unlink()
    shutil.rmtree(part, ignore_errors=True)
    tests = ",".join(str(text / subset) for subset in subsets if subset.startswith("test"))
    parser_arguments = [
        *("--source-lang", source, "--target-lang", target, "--joined-dictionary", "--workers", str(workers)),
        *("--trainpref", str(text / "train"), "--validpref", str(text / "valid"), "--testpref", tests),
        *("--destdir", str(part)),
    ]
    preprocess.main(options.get_preprocessing_parser().parse_args(parser_arguments))
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
