"""BLEU and chrF of what a system wrote, with sacreBLEU's signatures, and no sentence lost on the way.

Texts are compared in Unicode NFC: what looks the same is the same. Needs neither torch nor fairseq.
"""

import functools
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.bleu import BLEUScore
from sacrebleu.significance import PairedTest

from ..errors import DataError, UsageError
from ..reading import read_lines
from ..text.languages import sacrebleu_tokenizer
from ..text.normalize import INVISIBLE
from .generated import is_generated, read_generated

# What brings the tokenisers that sacreBLEU does not bring itself.
PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
WITH_CHARACTERS = ", or score with --tokenize char"
DEFAULT = "13a"
# Of the test set, in a paired bootstrap.
RESAMPLES = 1000
# It keeps all resamples of all sentences at once, 40 kB a sentence.
MOST_TESTED = 20_000
# No numbers and leaders, and no further than words go.
REPEATED = re.compile(r"([^\W\d_]\S{2,39}?)\s?\1")
# Thai, Lao, Tibetan and Burmese; Khmer; kana; Han.
WITHOUT_BLANKS = re.compile("[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Score:
    """The quality of one system on one test set.

    Attributes:
        bleu: corpus BLEU, 0 to 100 (cased).
        signature: sacreBLEU's; two scores compare only if theirs are the same.
        chrf: corpus chrF, 0 to 100.
        chrf_signature: likewise.
        brevity_penalty: 1 when the output is at least as long as the references, less when it is shorter.
        repetition_rate: share of the sentences in which some token follows itself.
        reference_repetition_rate: the same of the first reference: some repetitions are right.
        sentences: number of sentences.
    """

    bleu: float
    signature: str
    chrf: float
    chrf_signature: str
    brevity_penalty: float
    repetition_rate: float
    reference_repetition_rate: float
    sentences: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@functools.cache
def bleu_metric(tokenize: str = DEFAULT, effective_order: bool = False) -> BLEU:
    """sacreBLEU's metric with one of its tokenisers.

    Args:
        tokenize: sacreBLEU's name of it.
        effective_order: for single sentences, which may have no four words.

    Raises:
        UsageError: there is no such tokeniser, or what it needs is not installed.
    """
    if tokenize not in BLEU.TOKENIZERS:
        raise UsageError(f"--tokenize {tokenize}: needs one of {', '.join(BLEU.TOKENIZERS)}")
    try:
        return BLEU(tokenize=tokenize, effective_order=effective_order)
    except (AssertionError, ImportError, OSError, RuntimeError) as error:
        # MeCab of another version, or a model that cannot be downloaded.
        if tokenize in PACKAGES:
            way = f"pip install '{PACKAGES[tokenize]}'{WITH_CHARACTERS}"
        else:
            way = " ".join(str(error).split())
        raise UsageError(f"sacreBLEU's tokeniser {tokenize} cannot be used here: {way}") from None


def comparable(text: str) -> str:
    """A sentence as it is scored: what looks the same is the same (Unicode NFC, nothing invisible)."""
    return unicodedata.normalize("NFC", INVISIBLE.sub("", text))


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str | None = None,
    tokenize: str | None = None,
) -> BLEUScore:
    """sacreBLEU's corpus BLEU, with its counts.

    Args:
        hypotheses: one detokenised sentence each.
        references: one or more lists, each as long as `hypotheses`.
        language: its code; chooses the tokeniser.
        tokenize: sacreBLEU's name of a tokeniser, instead of the language's.

    Raises:
        UsageError: see `bleu_metric`.
    """
    texts, *truths = (list(map(comparable, lines)) for lines in (hypotheses, *references))
    return bleu_metric(tokenize or sacrebleu_tokenizer(language)).corpus_score(texts, truths)


def word_splitter(tokenize: str = DEFAULT) -> Callable[[str], list[str]]:
    """What cuts a text into words: at blanks, or as sacreBLEU does where there are none.

    Raises:
        UsageError: see `bleu_metric`.
    """
    if tokenize == DEFAULT:
        return str.split
    tokenizer = bleu_metric(tokenize).tokenizer
    return lambda text: str(tokenizer(text.strip())).split()


def repetition_rate(sentences: Sequence[str], tokenize: str = DEFAULT) -> float:
    """Share of the sentences in which some word follows itself; see `word_splitter`.

    Where text is scored by characters, of which many follow themselves: at least three of them do together.
    """
    if tokenize == "char":
        return sum(map(bool, map(REPEATED.search, sentences))) / max(len(sentences), 1)
    split = word_splitter(tokenize)
    repeating = sum(any(a == b for a, b in pairwise(split(sentence))) for sentence in sentences)
    return repeating / len(sentences) if sentences else 0.0


def score(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = DEFAULT) -> Score:
    """Corpus BLEU (cased) and chrF against one or more reference translations.

    Args:
        hypotheses: one detokenised sentence each.
        references: one or more lists, each as long as `hypotheses`.
        tokenize: sacreBLEU's name of its tokeniser.

    Raises:
        DataError: there is no sentence or no reference, or the numbers of sentences differ.
        UsageError: see `bleu_metric`.
    """
    if not hypotheses or not references:
        raise DataError("nothing to score: needs at least one sentence and one reference")
    for number, lines in enumerate(references):
        if len(lines) != len(hypotheses):
            raise DataError(f"{len(hypotheses)} sentences, but {len(lines)} in reference {number}")
    bleu, chrf = bleu_metric(tokenize), CHRF()
    texts, *truths = (list(map(comparable, lines)) for lines in (hypotheses, *references))
    by_words, by_characters = bleu.corpus_score(texts, truths), chrf.corpus_score(texts, truths)
    return Score(
        bleu=by_words.score,
        signature=str(bleu.get_signature()),
        chrf=by_characters.score,
        chrf_signature=str(chrf.get_signature()),
        brevity_penalty=by_words.bp,
        repetition_rate=repetition_rate(texts, tokenize),
        reference_repetition_rate=repetition_rate(truths[0], tokenize),
        sentences=len(texts),
    )


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    baseline: str,
    tokenize: str = DEFAULT,
) -> dict[str, dict[str, Any]]:
    """How sure BLEU and its difference from a baseline are, by sacreBLEU's paired bootstrap (Koehn 2004).

    Args:
        systems: what each wrote, one detokenised sentence each, by name.
        references: one or more lists, each as long.
        baseline: one of the systems.
        tokenize: sacreBLEU's name of its tokeniser.

    Returns:
        Nothing for more than `MOST_TESTED` sentences. For each system `bleu_interval`, half the width of the
        95 % interval, with the signature of the test, `bleu_test`; for others than the baseline also
        `bleu_p`, of the size of the difference, which is about half of a two-sided p, and `bleu_baseline`.
    """
    if len(references[0]) > MOST_TESTED:
        print(
            f"{len(references[0])} sentences: above {MOST_TESTED} BLEU is reported without its uncertainty",
            file=sys.stderr,
        )
        return {}
    named: list[tuple[str, Sequence[str]]] = [
        (name, list(map(comparable, systems[name]))) for name in sorted(systems, key=baseline.__ne__)
    ]
    truths = [list(map(comparable, lines)) for lines in references]
    logger = logging.getLogger("sacrebleu")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        metric = BLEU(tokenize=tokenize)
        test = PairedTest(named, {"BLEU": metric}, truths, test_type="bs", n_samples=RESAMPLES)
        signatures, found = test()
    finally:
        logger.setLevel(level)
    sure: dict[str, dict[str, Any]] = {}
    results: Sequence[Any] = found["BLEU"]
    for (name, _), result in zip(named, results, strict=True):
        sure[name] = {"bleu_interval": float(result.ci), "bleu_test": str(signatures["BLEU"])}
        if name != baseline:
            # sacreBLEU takes no difference at all for a sure one.
            p = 1.0 if result.score == results[0].score else float(result.p_value)
            sure[name] |= {"bleu_p": p, "bleu_baseline": baseline}
    return sure


def language_of(path: Path) -> str | None:
    """The ending of a name that is its language: `zh` of `test.zh`, `test.zh.1` and `test.zh.txt`."""
    endings = [suffix[1:] for suffix in path.suffixes if not suffix[1:].isdigit() and suffix != ".txt"]
    return endings[-1] if endings else None


def score_file(system: Path, references: Sequence[Path], tokenize: str = DEFAULT) -> Score:
    """Score what a system wrote against plain-text references.

    Args:
        system: output of `fairseq-generate`, or plain text, a sentence each line.
        references: one or more, as plain text.
        tokenize: sacreBLEU's name of its tokeniser.

    Raises:
        DataError: as `read_generated`; or the output and a reference differ in length.
        UsageError: see `bleu_metric`.
    """
    hypotheses = read_lines(system)
    generated = is_generated(hypotheses)
    truths = [read_lines(path) for path in references]
    for path, lines in zip(references, truths, strict=True):
        if generated:
            hypotheses = read_generated(system, path, len(lines))
        elif len(hypotheses) != len(lines):
            raise DataError(
                f"{system}: {len(hypotheses)} lines, but {path} has {len(lines)}; "
                + _explain_lengths((system, hypotheses), (path, lines))
            )
    return score(hypotheses, truths, tokenize)


def _explain_lengths(system: tuple[Path, list[str]], reference: tuple[Path, list[str]]) -> str:
    """Why two plain texts have different numbers of lines, as far as they show it."""
    (short, few), (long, many) = sorted((system, reference), key=lambda text: len(text[1]))
    if not any(many[len(few) :]):
        return f"the last {len(many) - len(few)} of {long} are empty"
    if sum(map(bool, many)) == len(few):
        return f"{long} has as many that are not empty: were empty ones left out of {short}?"
    if len("\n".join(few).splitlines()) == len(many):
        return (
            f"{short} has characters inside its lines that some programs take for line ends (such as U+2028)"
        )
    return "it has no 'D-' lines of fairseq-generate, so it was read as plain text, a sentence each line"


def unnoticed_script(texts: Sequence[str]) -> bool:
    """Whether texts have no blanks between words for the most part: 13a counts whole clauses as words."""
    text = "".join(texts)
    return len(WITHOUT_BLANKS.findall(text)) > len(text) / 3
