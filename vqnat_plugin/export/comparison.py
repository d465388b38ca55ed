"""Whether an exported model translates as its checkpoint does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..evaluation.bleu import bleu_metric, corpus_bleu
from ..runtime.decoding import Decoding
from ..runtime.translator import Translator
from ..text.languages import sacrebleu_tokenizer

# Candidates that a teacher ranks.
CANDIDATES = 4
# BLEU that may be lost without a warning.
LOSS = 0.2


def compare(
    hub: Any,
    translator: Translator,
    pairs: Sequence[tuple[Any, Any]],
    teacher: Path | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Any] | None:
    """Translate sentences with both; None where there are none.

    Args:
        hub: the checkpoint's, see `VQNAT.from_pretrained`.
        translator: of the exported model.
        pairs: see `validation_pairs`.
        teacher: checkpoint of the one that was exported with it.
        tell: told what is being done.

    Returns:
        `sentences`, how many; `identical`, the share of them with the same sub-words; `bleu` of `exported`
        and `checkpoint`, by sacreBLEU's tokeniser `tokenize`; `score_difference`, the largest among the
        identical ones, nats a sub-word. All of one candidate a sentence; `rescored` has the same of the best
        of `CANDIDATES` by the teacher's score.
    """
    if not pairs:
        return None
    tell(
        f"translating {len(pairs)} sentences of the validation set with the checkpoint and what was exported"
    )
    found = {"sentences": len(pairs), **_compared(hub, translator, pairs, Decoding())}
    if teacher is not None:
        tell(f"translating them again, {CANDIDATES} candidates each, ranked by the teacher")
        hub.task.cfg.rescore_with = str(teacher)
        options = Decoding(candidates=CANDIDATES, rescore=True)
        found["rescored"] = _compared(hub, translator, pairs, options)
    return found


def _compared(
    hub: Any, translator: Translator, pairs: Sequence[tuple[Any, Any]], options: Decoding
) -> dict[str, Any]:
    rows = [source for source, _ in pairs]
    exported = [each[0] for each in translator.decode([row.tolist() for row in rows], options)]
    original = [each[0] for each in hub.generate(rows, beam=options.candidates)]
    same = [
        abs(ours.score - theirs["score"])
        for ours, theirs in zip(exported, original, strict=True)
        if ours.tokens == theirs["tokens"].tolist()
    ]
    references = [hub.decode(target) for _, target in pairs]
    texts = {
        "exported": [translator.text(each.tokens) for each in exported],
        "checkpoint": [hub.decode(each["tokens"]) for each in original],
    }
    tokenize = _tokenizer(hub.task.cfg.target_lang)
    return {
        "identical": len(same) / len(pairs),
        "score_difference": max(same, default=None),
        "bleu": {
            name: corpus_bleu(lines, [references], tokenize=tokenize).score for name, lines in texts.items()
        },
        "tokenize": tokenize,
    }


def _tokenizer(language: str) -> str:
    """That of a language; characters where it is not installed, which is no reason to export nothing."""
    tokenize = sacrebleu_tokenizer(language)
    try:
        bleu_metric(tokenize)
    except UsageError:
        return "char"
    return tokenize


def describe(comparison: dict[str, Any] | None, precision: str) -> str:
    """What `compare` found, a line for each way of decoding, and one for what is less than it should be."""
    if comparison is None:
        return "not compared with the checkpoint: no validation set in the folder of the data (--data)"
    lines = [f"{comparison['sentences']} sentences of the validation set: {_figures(comparison)}"]
    every = [comparison]
    if "rescored" in comparison:
        every.append(comparison["rescored"])
        lines.append(f"the best of {CANDIDATES} by the teacher's score: {_figures(comparison['rescored'])}")
    if precision == "fp32" and any(each["identical"] < 1 for each in every):
        lines.append("warning: in fp32 all sentences should be identical")
    if any(each["bleu"]["checkpoint"] - each["bleu"]["exported"] > LOSS for each in every):
        lines.append(f"warning: more than {LOSS} BLEU are lost; consider --precision fp32")
    return "\n".join(lines)


def _figures(found: dict[str, Any]) -> str:
    bleu, by = found["bleu"], "by characters " if found["tokenize"] == "char" else ""
    line = (
        f"{100 * found['identical']:.1f} % identical, BLEU {by}{bleu['exported']:.2f}, of the checkpoint "
        f"{bleu['checkpoint']:.2f}"
    )
    if found["score_difference"] is not None:
        line += f", largest difference of scores {found['score_difference']:.2g}"
    return line
