"""BLEU of what a system wrote, with sacreBLEU's signature, and no sentence lost on the way."""

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU
from sacrebleu.metrics.bleu import BLEUScore

from ..errors import DataError, UsageError
from ..files import read_lines
from ..text.languages import sacrebleu_tokenizer

# Lines of fairseq-generate about a sentence.
MARKED = re.compile(r"[STHDP]-\d+(\t|$)")


@dataclass(frozen=True)
class Score:
    """The quality of one system on one test set.

    Attributes:
        bleu: corpus BLEU, 0 to 100 (13a tokenisation, cased).
        signature: sacreBLEU's; two scores compare only if theirs are the same.
        brevity_penalty: 1 when the output is at least as long as the references, less when it is shorter.
        repetition_rate: share of the sentences in which some token follows itself.
        reference_repetition_rate: the same of the first reference: some repetitions are right.
        sentences: number of sentences.
    """

    bleu: float
    signature: str
    brevity_penalty: float
    repetition_rate: float
    reference_repetition_rate: float
    sentences: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_generated(path: Path) -> list[str]:
    """The best hypothesis of each sentence, detokenised, in the order of the test set.

    Args:
        path: output of `fairseq-generate`; its `D-` lines are read. With `--nbest` the first one counts.

    Raises:
        DataError: a sentence is missing or occurs twice, or there is none.
    """
    hypotheses: dict[int, str] = {}
    current = None
    for line in read_lines(path):
        # A source line opens the block of a sentence, also of one that has been there before.
        if line.startswith("S-"):
            current = None
        if not line.startswith("D-"):
            continue
        name, *fields = line.split("\t", 2)
        if not name[2:].isdigit() or len(fields) != 2:
            raise DataError(f"{path}: not a line of fairseq-generate (cut off?): {line[:80]!r}")
        number = int(name[2:])
        if number == current:
            continue
        if number in hypotheses:
            raise DataError(f"{path}: sentence {number} occurs twice; is this the output of one run?")
        current = number
        hypotheses[number] = fields[1]
    if not hypotheses:
        raise DataError(f"{path}: no 'D-' lines; is it the output of fairseq-generate, without --quiet?")
    missing = sorted(set(range(max(hypotheses) + 1)) - set(hypotheses))
    if missing:
        raise DataError(_explain_missing(path, missing))
    return [hypotheses[number] for number in range(len(hypotheses))]


def _explain_missing(path: Path, missing: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (
        f"{path}: {len(missing)} sentences missing ({shown}). fairseq drops the end of a test set unless "
        "it is told --required-batch-size-multiple 1; else the run was cut short: generate again"
    )


@functools.cache
def bleu_metric(tokenize: str, effective_order: bool = False) -> BLEU:
    """sacreBLEU's BLEU, cased, with one of its tokenisers: `BLEU.TOKENIZERS`.

    Args:
        tokenize: name of the tokeniser.
        effective_order: for single sentences.

    Raises:
        UsageError: the tokeniser cannot be had: a package is missing, or its model cannot be downloaded.
    """
    try:
        return BLEU(tokenize=tokenize, effective_order=effective_order)
    except (RuntimeError, ImportError, OSError) as error:
        package = {"ja-mecab": "'sacrebleu[ja]'", "ko-mecab": "'sacrebleu[ko]'"}.get(tokenize)
        reason = f"pip install {package}" if package else " ".join(str(error).split())
        raise UsageError(
            f"BLEU with sacreBLEU's tokeniser {tokenize}: not installed: {reason} "
            "(vqnat score can do without: --tokenize char)"
        ) from None


def comparable(text: str) -> str:
    """A sentence as it is scored: what looks the same is the same (Unicode NFC, no byte order mark)."""
    return unicodedata.normalize("NFC", text.replace("\ufeff", ""))


def corpus_bleu(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str | None
) -> BLEUScore:
    """sacreBLEU's corpus BLEU, cased, with the tokeniser of a language; both sides in Unicode NFC.

    Args:
        hypotheses: one detokenised sentence each.
        references: one or more lists, each as long as `hypotheses`.
        language: code of theirs; 13a for None and for what is none.

    Raises:
        UsageError: see `bleu_metric`.
    """
    sides = [list(map(comparable, lines)) for lines in (hypotheses, *references)]
    return bleu_metric(sacrebleu_tokenizer(language)).corpus_score(sides[0], sides[1:])


def repetition_rate(sentences: Sequence[str]) -> float:
    """Share of the sentences in which some token (between blanks) follows itself."""
    repeating = sum(any(a == b for a, b in pairwise(sentence.split())) for sentence in sentences)
    return repeating / len(sentences) if sentences else 0.0


def score(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Corpus BLEU (13a, cased) against one or more reference translations.

    Args:
        hypotheses: one detokenised sentence each.
        references: one or more lists, each as long as `hypotheses`.

    Raises:
        DataError: there is no sentence or no reference, or the numbers of sentences differ.
    """
    if not hypotheses or not references:
        raise DataError("nothing to score: needs at least one sentence and one reference")
    for number, lines in enumerate(references):
        if len(lines) != len(hypotheses):
            raise DataError(f"{len(hypotheses)} sentences, but {len(lines)} in reference {number}")
    metric = BLEU(tokenize="13a")
    result = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    return Score(
        bleu=result.score,
        signature=str(metric.get_signature()),
        brevity_penalty=result.bp,
        repetition_rate=repetition_rate(hypotheses),
        reference_repetition_rate=repetition_rate(references[0]),
        sentences=len(hypotheses),
    )


def score_file(system: Path, references: Sequence[Path]) -> Score:
    """Score what a system wrote against plain-text references.

    Args:
        system: output of `fairseq-generate`, or plain text, a sentence each line.
        references: one or more, as plain text.

    Raises:
        DataError: as `read_generated`; or the output and a reference differ in length.
    """
    lines_found = read_lines(system)
    marked = any(MARKED.match(line) for line in lines_found)
    hypotheses = read_generated(system) if marked else lines_found
    texts = [read_lines(path) for path in references]
    for path, lines in zip(references, texts, strict=True):
        if len(lines) == len(hypotheses):
            continue
        if not marked:
            raise DataError(
                f"{system}: {len(hypotheses)} lines, but {path} has {len(lines)}; it has no 'D-' lines of "
                "fairseq-generate, so it was read as plain text, a sentence each line"
            )
        if len(lines) > len(hypotheses):
            raise DataError(_explain_missing(system, range(len(hypotheses), len(lines))))
        raise DataError(
            f"{path}: {len(lines)} lines, but {system} holds {len(hypotheses)} sentences; "
            "is it the reference of this test set?"
        )
    return score(hypotheses, texts)
