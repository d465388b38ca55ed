"""Whether an exported model translates as its checkpoint does."""

from typing import Any

from fairseq.data.data_utils import load_indexed_dataset

from ..evaluation.bleu import corpus_bleu
from ..runtime.decoding import Decoding
from ..runtime.translator import Translator

# Sentences of the validation set that are translated twice.
MOST = 1000
# BLEU that may be lost without a warning.
LOSS = 0.2


def compare(hub: Any, translator: Translator) -> dict[str, Any] | None:
    """Translate the validation set with both, one candidate a sentence; None where there is none.

    Args:
        hub: the checkpoint's, see `VQNAT.from_pretrained`.
        translator: of the exported model.

    Returns:
        `sentences`, how many; `identical`, the share of them with the same sub-words; `bleu` of `exported`
        and `checkpoint`; `score_difference`, the largest among the identical ones, nats a sub-word.
    """
    pairs = _validation(hub)
    if not pairs:
        return None
    rows = [source for source, _ in pairs]
    exported = [each[0] for each in translator.decode([row.tolist() for row in rows], Decoding())]
    original = [each[0] for each in hub.generate(rows, beam=1)]
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
    language = hub.task.cfg.target_lang
    return {
        "sentences": len(pairs),
        "identical": len(same) / len(pairs),
        "score_difference": max(same, default=None),
        "bleu": {
            name: corpus_bleu(lines, [references], language=language).score for name, lines in texts.items()
        },
    }


def _validation(hub: Any) -> list[tuple[Any, Any]]:
    """Pairs of the validation set that the model can read, the first of them."""
    cfg = hub.task.cfg
    prefix = f"{cfg.data}/valid.{cfg.source_lang}-{cfg.target_lang}."
    dictionaries = (hub.task.source_dictionary, hub.task.target_dictionary)
    sides = [
        load_indexed_dataset(prefix + language, dictionary)
        for language, dictionary in zip((cfg.source_lang, cfg.target_lang), dictionaries, strict=True)
    ]
    if None in sides:
        return []
    found = []
    for source, target in zip(*sides, strict=True):
        if len(source) <= hub.max_positions[0]:
            found.append((source.long(), target.long()))
        if len(found) == MOST:
            break
    return found


def describe(comparison: dict[str, Any] | None, precision: str) -> str:
    """What `compare` found, in one line, and a second one where it is less than it should be."""
    if comparison is None:
        return "not compared with the checkpoint: no validation set in the folder of the data (--data)"
    bleu, share = comparison["bleu"], comparison["identical"]
    line = (
        f"{comparison['sentences']} sentences of the validation set: {100 * share:.1f} % identical, BLEU "
        f"{bleu['exported']:.2f}, of the checkpoint {bleu['checkpoint']:.2f}"
    )
    if comparison["score_difference"] is not None:
        line += f", largest difference of scores {comparison['score_difference']:.2g}"
    if precision == "fp32" and share < 1:
        line += "\nwarning: in fp32 all sentences should be identical"
    if bleu["checkpoint"] - bleu["exported"] > LOSS:
        line += f"\nwarning: more than {LOSS} BLEU are lost; consider --precision fp32"
    return line
