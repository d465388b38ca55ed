"""How good the latents are: reconstruction, predictability and use of the codes on one subset."""

from argparse import Namespace
from collections import Counter
from pathlib import Path

import torch
from fairseq.logging import metrics

from ..evaluation.bleu import bleu_metric, corpus_bleu
from ..evaluation.detokenizer import Detokenizer
from ..models.checkpoints import training_data
from ..tasks.validation_bleu import UNKNOWN, UNKNOWN_IN_REFERENCE
from ..text.languages import sacrebleu_tokenizer
from .code_use import code_use
from .latent_model import batches, codes_of, load_latent_model

# Named as in the report; the task's names on the right.
FIGURES = {
    "predictor_accuracy": "predictor_accuracy",
    "predictor_perplexity": "predictor_ppl",
    "word_perplexity": "words_ppl",
    "posterior_entropy": "posterior_entropy",
}


@torch.no_grad()
def evaluate_latents(
    checkpoint: Path,
    data: Path | None = None,
    subset: str = "test",
    batch_size: int = 50,
    tokenizer: str | None = None,
    device: torch.device | None = None,
    tokenize: str | None = None,
) -> dict[str, float]:
    """Measure the latents of a translation model against the references in `data`.

    Reconstruction BLEU (cased) compares the references with what the decoder
    makes of their own codes: how much codes carry, not a score of the system.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        data: binarised data; what the model was trained on by default.
        subset: split of it.
        batch_size: sentences.
        tokenizer: how tokens become text, see `Detokenizer`.
        device: where the model runs; the CPU by default.
        tokenize: sacreBLEU's name of its tokeniser; that of the target language by default.

    Returns:
        `reconstruction_bleu`, the figures of `FIGURES`, `usage` and `perplexity` of the codes over the
        subset, `codebook_size` and `latents_per_sentence`.

    Raises:
        DataError: the checkpoint or the subset is missing.
        CheckpointError: the checkpoint is damaged, or of another kind of model.
    """
    device = device or torch.device("cpu")
    model, config, task = load_latent_model(checkpoint, subset, data, device)
    tokenize = tokenize or sacrebleu_tokenizer(task.cfg.target_lang)
    # Before anything is decoded: what it needs may not be installed.
    bleu_metric(tokenize)
    text = Detokenizer(task, training_data(task.cfg), tokenizer)
    generator = task.build_generator([model], Namespace(beam=1))
    written: list[str] = []
    references: list[str] = []
    criterion = task.build_criterion(config.criterion)
    with metrics.aggregate(new_root=True) as collected:
        used: Counter[int] = Counter()
        sentences = 0
        for sample in batches(task, subset, batch_size, "latents", device):
            _, _, log = task.valid_step(sample, model, criterion)
            task.reduce_metrics([log], criterion)
            written += [text(found[0]["tokens"], UNKNOWN) for found in generator.reconstruct([model], sample)]
            references += [text(target, UNKNOWN_IN_REFERENCE) for target in sample["target"]]
            codes, mask = codes_of(model, sample["target"], model.encode(sample["net_input"]["src_tokens"]))
            used.update(codes[mask].tolist())
            sentences += len(sample["id"])
    values = collected.get_smoothed_values()
    figures = {name: float(values[key]) for name, key in FIGURES.items() if key in values}
    size = model.quantizer.codebook_size
    return {
        "reconstruction_bleu": corpus_bleu(written, [references], tokenize=tokenize).score,
        **figures,
        **code_use(list(used.values()), size),
        "codebook_size": size,
        "latents_per_sentence": used.total() / sentences,
    }
