"""Measure the latents of a trained vq_nat_em: reconstruction, predictability, and use of the codes.

None of them is the BLEU of the system: that comes from `vqnat generate` and `vqnat score`.
"""

from dataclasses import dataclass
from pathlib import Path

from ..analysis.options import AnalysisOptions
from ..evaluation.settings import ScoringOptions, TextOptions
from ..options import FILE, option


@dataclass(kw_only=True)
class Options(TextOptions, ScoringOptions, AnalysisOptions):
    """Options of `vqnat latents`."""

    out: Path | None = option(None, "JSON file to write", metavar="FILE", writes=FILE)


def run(options: Options) -> None:
    """Measure, write and show the figures."""
    from ..analysis.latents import evaluate_latents
    from ..files import write_json
    from ..machine import available_device

    figures = evaluate_latents(
        options.checkpoint,
        options.data,
        options.gen_subset,
        batch_size=options.batch_size,
        tokenizer=options.tokenizer,
        tokenize=options.tokenize,
        device=available_device(options.cpu),
    )
    if options.out is not None:
        write_json(options.out, figures)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
