"""From parallel text to binarised data, with the text pipeline that made it beside it."""

import functools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging import FileHandler
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fairseq import options as fairseq_options
from tqdm import tqdm

from ..data.dictionaries import read_dictionary
from ..errors import DataError
from ..files import alone, write_atomically, write_lines, write_text
from ..launch import end_with_parent
from ..reading import read_lines
from ..text.moses import MARKS, without_marks
from ..text.normalize import clean, single_blanks
from ..text.pipeline import TextPipeline, choose_tokenizer
from ..text.subwords import learn_merges, learn_pieces, read_merges, read_model
from .parallel import Pair, find_splits, hold_out, numbered_references, read_corpus, read_pairs
from .publishing import BINARISED, MERGES, MODEL, check_out, publish, put_back, remove
from .settings import SUSPICIOUS, PrepareOptions

# With Moses, marks are written where so large a share of the training lines needs one: a symbol that is rarer
# is not learnt, and only disturbs.
MARKED = 0.005
# Pairs that pieces are learnt from, with some 15 kB each in Chinese; more would hardly change them.
MOST_LEARNT = 500_000
# For a token, in any language: what is longer is long in tokens as well.
CHARACTERS = 6
# Characters by which sides may differ whatever their ratio is: "Hi." is "Guten Tag."
SLACK = 10
# Of typewriters for those of printers.
QUOTES = str.maketrans("’‘´`“”„«»", '\'\'\'\'"""""')
# Why a pair of a corpus that is split here is left out; nothing is wrong with it.
HELD_OUT = "other translations of what is held out"

Tokens = list[str]
Subsets = dict[str, list[tuple[Tokens, Tokens]]]
# A function, what to apply it to, and the label of the progress bar.
Mapping = Callable[[Callable[[Any], Tokens], Sequence[Any], str], list[Tokens]]


@dataclass
class Prepared:
    """What `prepare` made.

    Attributes:
        pairs: sentence pairs of each subset.
        dropped: training pairs that were left out, by reason.
        known: how many pairs of valid and test have a source that train has as well, token by token.
        names: what test sets were called that are called otherwise now.
    """

    pairs: dict[str, int]
    dropped: Counter[str]
    known: dict[str, int]
    names: dict[str, str]

    def warning(self) -> str | None:
        """What is suspicious about the pairs that were left out, if anything is."""
        unusable = Counter({reason: count for reason, count in self.dropped.items() if reason != HELD_OUT})
        left_out, total = unusable.total(), unusable.total() + self.pairs["train"]
        if left_out <= SUSPICIOUS * total:
            return None
        reason, count = unusable.most_common(1)[0]
        return (
            f"{left_out} of {total} training pairs ({left_out / total:.0%}) were left out, {count} of them "
            f"{reason}; check the languages and how the text is aligned"
        )


@contextmanager
def _told_of_deaths() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise DataError(
            "a process was killed from outside; if memory was short, take fewer --workers"
        ) from None


@contextmanager
def mapping(workers: int) -> Iterator[Mapping]:
    """A function that makes tokens of sentences, in order, in so many processes, with a progress bar."""
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),))
    with pool, _told_of_deaths():
        # Processes start with the first task.
        spread = functools.partial(pool.map, chunksize=1000)

        def each(function: Callable[[Any], Tokens], sides: Sequence[Any], label: str) -> list[Tokens]:
            found = map(function, sides) if workers == 1 else spread(function, sides)
            bar = tqdm(found, desc=label, total=len(sides), mininterval=1)
            # Each symbol is in memory once, however often it occurs.
            return [list(map(sys.intern, tokens)) for tokens in bar]

        yield each


def unusable(
    source: Tokens,
    target: Tokens,
    max_length: int,
    max_ratio: float,
    typical: float = 1.0,
    words: bool = True,
) -> str | None:
    """Why a training pair is left out; None for one that is not.

    Args:
        source, target: tokens of both sides.
        max_length, max_ratio: see `PrepareOptions`.
        typical: target tokens for a source token, for which a pair is not lopsided.
        words: whether these are words, among which marks do not count; SentencePiece has a piece that looks
            like a mark.
    """
    lengths = [_length(side, words) for side in (source, target)]
    if not min(lengths):
        return "empty"
    if max(lengths) > max_length:
        return f"longer than --max-length {max_length}"
    shorter, longer = sorted((lengths[0] * typical, float(lengths[1])))
    if longer > max_ratio * shorter:
        return f"more lopsided than --max-ratio {max_ratio:g}"
    return None


def prepare(options: PrepareOptions) -> Prepared:
    """Tokenise, segment and binarise parallel text.

    Writes, in `options.out`, `bin` (for `fairseq-train`, with the text pipeline), `bpe/SUBSET.LANG`
    (sub-words), `reference/SUBSET.LANG` (raw text of valid and test, for scoring; `SUBSET.LANG.1`, ... if
    there are more) and the merges or the model of the segmentation, in place of what was there. Training
    pairs that are empty, too long or too lopsided are left out and counted; valid and test stay whole.

    Raises:
        DataError: text is missing, damaged or differs in length, no training pair is left, another process
            writes to the folder, or what was written is deleted meanwhile.
        UsageError: a language is unknown, an option does not fit it, or files of others would be deleted.
    """
    with alone(options.out) as check:
        made = options.out / ".part"
        check_out(options)
        if not made.is_symlink():
            # Of a call that was killed.
            put_back(made / "old", options.out)
        remove(made)
        made.mkdir()
        try:
            prepared = _prepare(replace(options, out=made))
            check()
            # Meanwhile somebody may have put something there.
            check_out(options)
            publish(made, options.out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return prepared


def _prepare(options: PrepareOptions) -> Prepared:
    """See `prepare`, for an empty `options.out`."""
    languages = (options.source_lang, options.target_lang)
    tokenizer = choose_tokenizer(*languages, options.wanted_tokenizer())
    model = read_model(options.sentencepiece_model) if options.sentencepiece_model else b""
    merges = read_merges(options.bpe_codes) if options.bpe_codes else ""
    pipeline = TextPipeline(*languages, tokenizer, options.normalization, merges=merges, model=model)
    raw, held_out, names = _read(options)
    with mapping(options.workers) as each:
        tokens = _sides(
            raw, languages, lambda each: functools.partial(pipeline.tokenize, language=each), each, "tokenise"
        )
        known = _known(tokens)
        # Without blanks between words, only pieces can be counted.
        words = tokenizer == "moses"
        if words:
            tokens["train"], dropped = _filter(tokens["train"], options, words)
        elif not any(map(all, tokens["train"])):
            # Pieces are learnt first, and there would be nothing to learn from.
            _filter(tokens["train"], options, words)
        pipeline = _learn(pipeline, tokens["train"], options)
        texts = _sides(tokens, languages, lambda _: pipeline.segment, each, "segment")
        if not words:
            texts["train"], dropped = _filter(texts["train"], options, words)
    for subset, pairs in texts.items():
        for language, side in zip(languages, zip(*pairs, strict=True), strict=True):
            write_lines(options.out / "bpe" / f"{subset}.{language}", map(" ".join, side))
    binarize(options, pipeline, list(texts))
    counts = {subset: len(pairs) for subset, pairs in texts.items()}
    return Prepared(counts, dropped + held_out, known, names)


def _read(options: PrepareOptions) -> tuple[dict[str, list[Pair]], Counter[str], dict[str, str]]:
    """The raw text of all subsets, what was left out for what is held out, and former names of subsets.

    The text of valid and test is written as references.
    """
    folder, languages = options.out / "reference", (options.source_lang, options.target_lang)
    targets: dict[str, Path] = {}
    left_out, names = Counter[str](), dict[str, str]()
    if options.data[0].is_file():
        corpus = read_corpus(options.data, *languages)
        raw = hold_out(corpus, options.held_out, _roughly_usable(corpus, options), _plain)
        left_out[HELD_OUT] = len(corpus) - sum(map(len, raw.values()))
    else:
        splits = find_splits(options.data[0], *languages)
        raw = {split.subset: read_pairs(split) for split in splits}
        names = {each.subset: each.name for each in splits[2:] if each.name != each.subset}
        # Beside a table they would be tables as well.
        targets = {split.subset: split.target for split in splits if len(split.files) > 1}
    for subset in sorted(set(raw) - {"train"}):
        _write_references(subset, raw[subset], folder, languages, targets.get(subset))
    return raw, left_out, names


def _plain(line: str) -> str:
    """A line without what differs from one keyboard to another: much faster than how it is normalised."""
    return single_blanks(clean(line, "nfc")).translate(QUOTES)


def _roughly_usable(corpus: Sequence[Pair], options: PrepareOptions) -> Callable[[Pair], bool]:
    """Whether a pair is worth being tested on, as far as characters show it: nothing is cut yet."""
    totals = [sum(len(pair[side]) for pair in corpus) for side in (0, 1)]
    typical = totals[1] / totals[0] if all(totals) else 1.0
    longest = CHARACTERS * options.max_length

    def usable(pair: Pair) -> bool:
        source, target = map(len, pair)
        shorter, longer = sorted((source * typical + SLACK, float(target + SLACK)))
        return all(pair) and max(source, target) <= longest and longer <= options.max_ratio * shorter

    return usable


def _known(tokens: Subsets) -> dict[str, int]:
    """See `Prepared`."""
    tested = {
        name: [tuple(source) for source, _ in pairs] for name, pairs in tokens.items() if name != "train"
    }
    # Of these alone, of which there are few, a second copy is made.
    wanted = {source for sources in tested.values() for source in sources}
    found = {key for source, _ in tokens["train"] if (key := tuple(source)) in wanted}
    return {name: sum(source in found for source in sources) for name, sources in tested.items()}


def _write_references(
    subset: str, pairs: Sequence[Pair], folder: Path, languages: tuple[str, str], target: Path | None
) -> None:
    for language, side in zip(languages, zip(*pairs, strict=True), strict=True):
        write_lines(folder / f"{subset}.{language}", side)
    for number, file in numbered_references(target).items() if target else ():
        lines = read_lines(file)
        if len(lines) != len(pairs):
            raise DataError(f"{target} has {len(pairs)} lines but {file} has {len(lines)}")
        write_lines(folder / f"{subset}.{languages[1]}.{number}", lines)


def _sides(
    subsets: dict[str, list[Any]],
    languages: tuple[str, str],
    function: Callable[[str], Callable[[Any], Tokens]],
    each: Mapping,
    label: str,
) -> Subsets:
    """Apply to each sentence what `function` is for its language; `subsets` is empty then, for the memory."""
    found = {}
    for subset in list(subsets):
        pairs = subsets.pop(subset)
        sides = [
            each(function(language), side, f"{label} {subset}.{language}")
            for language, side in zip(languages, zip(*pairs, strict=True), strict=True)
        ]
        found[subset] = list(zip(*sides, strict=True))
    return found


def _filter(
    pairs: Sequence[tuple[Tokens, Tokens]], options: PrepareOptions, words: bool
) -> tuple[list[tuple[Tokens, Tokens]], Counter[str]]:
    """The training pairs that stay, and how many do not, by reason.

    Raises:
        DataError: none stays.
    """
    # Scripts need more pieces or fewer, and languages words.
    typical = _typical_ratio(pairs, words, options.max_length)
    reasons = [unusable(*pair, options.max_length, options.max_ratio, typical, words) for pair in pairs]
    kept = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
    dropped = Counter(reason for reason in reasons if reason is not None)
    if not kept:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        shown = " ".join(map(str, options.data))
        raise DataError(
            f"--data {shown}: no usable training pair (--max-length {options.max_length}, "
            f"--max-ratio {options.max_ratio}): {counts}"
        )
    return kept, dropped


def _length(side: Tokens, words: bool) -> int:
    return len(without_marks(side) if words else side)


def _typical_ratio(pairs: Sequence[tuple[Tokens, Tokens]], words: bool, max_length: int) -> float:
    """Target tokens for a source token, in pairs that are neither empty nor too long; 1 if there are none."""
    totals = [0, 0]
    for pair in pairs:
        lengths = [_length(side, words) for side in pair]
        if min(lengths) and max(lengths) <= max_length:
            totals = [total + length for total, length in zip(totals, lengths, strict=True)]
    return totals[1] / totals[0] if totals[0] else 1.0


def _learn(
    pipeline: TextPipeline, train: Sequence[tuple[Tokens, Tokens]], options: PrepareOptions
) -> TextPipeline:
    """The pipeline with its segmentation, learnt from the training text or given; a copy is written too."""
    if pipeline.tokenizer == "sentencepiece":
        model = pipeline.model
        if not model:
            whole = [pair for pair in train if all(pair)]
            count = min(len(whole), MOST_LEARNT)
            print(f"learning a SentencePiece model of {options.merges} merges, of {count} pairs", flush=True)
            # At equal distances: corpora are often sorted.
            chosen = (whole[number * len(whole) // count] for number in range(count))
            model = learn_pieces((line for pair in chosen for side in pair for line in side), options.merges)
        write_atomically(options.out / MODEL, lambda part: part.write_bytes(model))
        return replace(pipeline, model=model)
    merges = pipeline.merges
    if not options.bpe_codes:
        print(f"learning {options.merges} BPE merges", flush=True)
        lines = (" ".join(without_marks(side)) for pair in train for side in pair)
        merges = learn_merges(lines, options.merges) if options.merges else ""
    write_text(options.out / MERGES, merges)
    if given := {path for path in (options.srcdict, options.tgtdict) if path}:
        # What is written in symbols of others is written with marks if these were.
        texts = (read_dictionary(path).split("\n") for path in given)
        marks = all(any(line.partition(" ")[0] in MARKS for line in lines) for lines in texts)
    else:
        halves = zip(*train, strict=True)
        marked = max(sum(not MARKS.isdisjoint(side) for side in half) for half in halves)
        marks = marked > MARKED * len(train)
    return replace(pipeline, merges=merges, marks=marks)


def binarize(options: PrepareOptions, pipeline: TextPipeline, subsets: Sequence[str]) -> None:
    """Binarise segmented text with `fairseq-preprocess`, and set the pipeline beside it.

    Without dictionaries of its own, one is made for both sides.
    """
    # Not at the top: it configures the root logger when imported.
    from fairseq_cli import preprocess

    text, out = options.out / "bpe", options.out / BINARISED
    tests = ",".join(str(text / subset) for subset in subsets if subset.startswith("test"))
    arguments = [
        *("--source-lang", pipeline.source, "--target-lang", pipeline.target),
        *("--workers", str(options.workers), "--destdir", str(out)),
        *("--trainpref", str(text / "train"), "--validpref", str(text / "valid"), "--testpref", tests),
        *(("--srcdict", str(options.srcdict)) if options.srcdict else ()),
        *(("--tgtdict", str(options.tgtdict)) if options.tgtdict else ("--joined-dictionary",)),
    ]
    try:
        preprocess.main(fairseq_options.get_preprocessing_parser().parse_args(arguments))
    finally:
        # It never closes its log, which is about to be moved.
        for handler in [each for each in preprocess.logger.handlers if isinstance(each, FileHandler)]:
            preprocess.logger.removeHandler(handler)
            handler.close()
    pipeline.save(out)
