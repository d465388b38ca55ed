"""What is logged of a codebook, whatever the model."""

from typing import Any

from fairseq.logging import metrics

# Means over batches, logged as they come from the quantiser.
CODEBOOK_METRICS = {
    "usage": "codebook_usage",
    "perplexity": "codebook_perplexity",
    "posterior_entropy": "posterior_entropy",
    "distinct_codes": "distinct_codes",
}
# The state at the last batch, over the epoch so far.
EPOCH_METRICS = {
    "epoch_usage": "codebook_usage_epoch",
    "epoch_perplexity": "codebook_perplexity_epoch",
    "revived": "revived_codes_epoch",
}


def log_codebook(logging_outputs: list[dict[str, Any]]) -> None:
    """Log the codebook's figures of all batches that were quantised: `quantized` in a log counts them."""

    def total(name: str) -> float:
        return float(sum(log.get(name, 0) for log in logging_outputs))

    quantized = total("quantized")
    # A kind of the user's may not have them all, and evaluation has none of an epoch.
    known = {name for log in logging_outputs for name in log}
    for name, label in CODEBOOK_METRICS.items():
        if name in known:
            metrics.log_scalar(label, total(name) / quantized, quantized, round=3)
    for name, label in EPOCH_METRICS.items():
        if name in known:
            # Weight 0 keeps the last value: these are running figures already.
            metrics.log_scalar(label, total(name) / quantized, weight=0, round=3)
