"""A BLEU score as a sum of counts, so that batches and workers add up to the corpus score."""

from typing import Any

import numpy as np
from fairseq.logging import metrics
from sacrebleu.metrics import BLEU

ORDER = 4


def bleu_statistics(name: str, bleu: Any) -> dict[str, int]:
    """The counts behind one sacreBLEU score, as logging outputs whose keys start with `_name`."""
    log = {f"_{name}_sys_len": bleu.sys_len, f"_{name}_ref_len": bleu.ref_len}
    for order in range(ORDER):
        log[f"_{name}_counts_{order}"] = bleu.counts[order]
        log[f"_{name}_totals_{order}"] = bleu.totals[order]
    return log


def log_bleu(name: str, logging_outputs: list[dict[str, Any]]) -> None:
    """Log the corpus BLEU of the summed counts as `name`."""

    def total(key: str) -> int:
        return int(sum(log.get(f"_{name}_{key}", 0) for log in logging_outputs))

    totals = np.array([total(f"totals_{order}") for order in range(ORDER)])
    if totals.max() == 0:
        return
    metrics.log_scalar(f"_{name}_counts", np.array([total(f"counts_{order}") for order in range(ORDER)]))
    metrics.log_scalar(f"_{name}_totals", totals)
    metrics.log_scalar(f"_{name}_sys_len", total("sys_len"))
    metrics.log_scalar(f"_{name}_ref_len", total("ref_len"))

    def score(meters: Any) -> float:
        bleu = BLEU.compute_bleu(
            correct=meters[f"_{name}_counts"].sum.tolist(),
            total=meters[f"_{name}_totals"].sum.tolist(),
            sys_len=int(meters[f"_{name}_sys_len"].sum),
            ref_len=int(meters[f"_{name}_ref_len"].sum),
            smooth_method="exp",
        )
        return round(bleu.score, 2)

    metrics.log_derived(name, score)
