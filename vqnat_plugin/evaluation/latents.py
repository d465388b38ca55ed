"""How good the latents are: reconstruction, predictability and use of the codes on one subset."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from tqdm import tqdm

from .files import EvaluationError

# Named as in the report; the task's names on the right.
FIGURES = {
    "reconstruction_bleu": "reconstruction_bleu",
    "predictor_accuracy": "predictor_accuracy",
    "predictor_perplexity": "predictor_ppl",
    "word_perplexity": "words_ppl",
    "posterior_entropy": "posterior_entropy",
}


def evaluate_latents(
    checkpoint: Path, data: Path, subset: str = "test", batch_size: int = 50, detokenizer: str = "space"
) -> dict[str, float]:
    """Measure the latents of a translation model against the references in `data`.

    Reconstruction BLEU (13a, cased) compares the references with what the decoder makes of their own codes:
    how much codes carry, not a score of the system.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        data: binarised data with `subset`.
        detokenizer: fairseq's name of one ('moses' or 'space').

    Returns:
        The figures of `FIGURES`, `usage` and `perplexity` of the codes over the subset, `codebook_size` and
        `latents_per_sentence`.

    Raises:
        EvaluationError: the checkpoint is missing or of another kind of model, or the subset is missing.
    """
    overrides = {
        "data": str(data),
        "eval_bleu": True,
        "eval_bleu_detok": detokenizer,
        "eval_bleu_remove_bpe": "@@ ",
        "eval_bleu_args": '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}',
        "init_from_teacher": None,
    }
    try:
        (model,), config, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], overrides)
    except OSError as error:
        raise EvaluationError(f"{checkpoint}: {error}") from None
    if not hasattr(model, "quantizer"):
        raise EvaluationError(
            f"{checkpoint}: not a latent translation model (trained with --task translation_vq)"
        )
    criterion = task.build_criterion(config.criterion)
    try:
        task.load_dataset(subset)
    except FileNotFoundError as error:
        raise EvaluationError(f"{data}: no subset '{subset}' ({error})") from None
    model.eval()
    with metrics.aggregate(new_root=True) as collected:
        used: Counter[int] = Counter()
        sentences = 0
        for sample in _batches(task, subset, batch_size):
            _, _, log = task.valid_step(sample, model, criterion)
            task.reduce_metrics([log], criterion)
            used.update(_codes(model, sample))
            sentences += len(sample["id"])
    values = collected.get_smoothed_values()
    figures = {name: float(values[key]) for name, key in FIGURES.items() if key in values}
    total = used.total()
    entropy = -sum(n / total * math.log(n / total) for n in used.values())
    return {
        **figures,
        "usage": len(used) / model.quantizer.codebook_size,
        "perplexity": math.exp(entropy),
        "codebook_size": model.quantizer.codebook_size,
        "latents_per_sentence": total / sentences,
    }


def _batches(task: Any, subset: str, batch_size: int) -> Iterator[dict[str, Any]]:
    iterator = task.get_batch_iterator(
        task.dataset(subset), max_sentences=batch_size, required_batch_size_multiple=1
    ).next_epoch_itr(shuffle=False)
    yield from tqdm(iterator, desc=f"latents of {subset}", unit="batch", mininterval=1)


@torch.no_grad()
def _codes(model: Any, sample: dict[str, Any]) -> list[int]:
    memory = model.encode(sample["net_input"]["src_tokens"])
    z, mask = model.compress(sample["target"], memory)
    return model.quantizer(z, mask).codes[mask].tolist()
