"""Find where a trained vq_nat_em loses BLEU: autoencoder, latent predictor, length, or choice of candidates.

Decodes a test set under different latents (codes of the teacher's output, predicted codes, of the true
length, shuffled, random, ...) and prints a table; writes diagnosis.json, diagnosis.md and diagnosis.png.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ..analysis.options import AnalysisOptions
from ..evaluation.settings import ScoringOptions, TextOptions
from ..options import FILE, FOLDER, MOST_BEAM, MOST_SEED, option


@dataclass(kw_only=True)
class Options(TextOptions, ScoringOptions, AnalysisOptions):
    """Options of `vqnat diagnose`."""

    teacher: Path | None = option(
        None,
        "its autoregressive teacher; that of --init-from-teacher in training by default. Without one the "
        "reference stands for the teacher's output",
        metavar="CHECKPOINT",
        exists=FILE,
    )
    ref: tuple[Path, ...] = option(
        (),
        "raw text of the references; the detokenised target side of the data by default",
        metavar="FILE",
        exists=FILE,
    )
    beam: int = option(4, "latent candidates", least=1, most=MOST_BEAM)
    seed: int = option(1, "of the random codes", least=0, most=MOST_SEED)
    out: Path | None = option(
        None, "folder to write to; 'diagnosis' beside the checkpoint by default", metavar="DIR", writes=FOLDER
    )


def writes_to(options: Options) -> Path:
    """The folder of the diagnosis."""
    return options.out or options.checkpoint.parent / "diagnosis"


def run(options: Options) -> None:
    """Decode, find what is lost, write and show it."""
    from ..analysis.diagnosis import LENGTH_LIMITS, Diagnosis, decode
    from ..analysis.losses import check_references, find_losses, losses_table
    from ..analysis.plot import plot_diagnosis
    from ..evaluation.bleu import bleu_metric
    from ..evaluation.tables import escape
    from ..files import write_json, write_text
    from ..machine import available_device, describe_machine, describe_versions
    from ..text.languages import sacrebleu_tokenizer

    out, subset = writes_to(options), options.gen_subset
    diagnosis = Diagnosis(
        options.checkpoint,
        options.data,
        options.teacher,
        subset=subset,
        beam=options.beam,
        tokenizer=options.tokenizer,
        device=available_device(options.cpu),
    )
    tokenize = options.tokenize or sacrebleu_tokenizer(diagnosis.task.cfg.target_lang)
    # Before anything is decoded: what it needs may not be installed.
    bleu_metric(tokenize)
    check_references(options.ref, len(diagnosis.task.dataset(subset)))
    result = find_losses(decode(diagnosis, options.batch_size, options.seed), options.ref, tokenize)
    result |= {
        "checkpoint": str(options.checkpoint),
        "teacher": None if diagnosis.teacher is None else str(diagnosis.teacher),
        "data": str(diagnosis.data),
        "subset": subset,
        "seed": options.seed,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    limits = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in LENGTH_LIMITS.items())
    shown = f"{losses_table(result)}\n\nAll texts are written with {limits}."
    write_json(out / "diagnosis.json", result)
    write_text(out / "diagnosis.md", f"# Diagnosis of {escape(subset)}\n\n{shown}\n\n![](diagnosis.png)\n")
    plot_diagnosis(result, out / "diagnosis.png", f"{options.checkpoint.name}, {subset}")
    print(shown)
    if not diagnosis.teachers:
        print("no teacher (--teacher): the reference stands for its output", file=sys.stderr)
    print(f"\n{out}: diagnosis.json, diagnosis.md, diagnosis.png written")
