"""A BLEU score as a sum of counts, so that batches and workers add up to the corpus score."""

from typing import Any

import numpy as np
import torch
from fairseq.logging import metrics
from sacrebleu.metrics import BLEU
from torch import Tensor

ORDER = 4


def bleu_statistics(name: str, bleu: Any) -> dict[str, Tensor]:
    """The counts behind one sacreBLEU score: two lengths, matches and totals of each order; as `_name`."""
    return {f"_{name}": torch.tensor([bleu.sys_len, bleu.ref_len, *bleu.counts, *bleu.totals])}


def log_bleu(name: str, logging_outputs: list[dict[str, Any]]) -> None:
    """Log the corpus BLEU of the summed counts as `name`, if there are any."""
    # They come from a GPU where workers have summed them.
    counts = [log[f"_{name}"].cpu() for log in logging_outputs if f"_{name}" in log]
    total = sum(counts, torch.zeros(2 + 2 * ORDER, dtype=torch.float64)).numpy()
    if total[2 + ORDER :].max() == 0:
        return
    metrics.log_scalar(f"_{name}", total)
    metrics.log_derived(name, lambda meters: _score(meters[f"_{name}"].sum))


def _score(counts: np.ndarray) -> float:
    length, reference, *others = counts.round().astype(int).tolist()
    matches, totals = others[:ORDER], others[ORDER:]
    return round(BLEU.compute_bleu(matches, totals, length, reference, smooth_method="exp").score, 2)
