"""Replace the training targets of binarised data by a teacher's translations: sequence-level distillation.

  vqnat distill --data data-bin --teacher teacher/checkpoint_best.pt --out data-bin-distilled --workers 2

--out becomes a folder for fairseq-train: train.* with the teacher's translations, the dictionaries, the text
pipeline, and valid* and test* as they are; besides train.distilled.TGT (the teacher's text of every training
sentence, in order, as sub-words), filtered.tsv (what was left out, and why) and manifest.json (counts,
settings, versions), which appears last.

Killed? Run the same command again: finished chunks, kept in OUT/.distill, are not translated again. Other
--filter-*, --filtered-fallback or --mix options reuse them too, so that changing these takes seconds.
"""

from ..distillation.settings import DistillOptions as Options
from ..errors import GOES_ON

INTERRUPTED = GOES_ON

EPILOG = """\
several machines or GPUs: start one process each, with torchrun, with Slurm's srun, or with
--distributed-rank and --distributed-world-size, on a file system that all of them see. The one that finishes
last writes the data set.

  torchrun --nproc-per-node 8 -m vqnat_plugin distill --data ... --teacher ... --out ... --fp16
"""


def run(options: Options) -> None:
    """Distil."""
    import logging

    from ..distillation.run import distill

    logging.getLogger("fairseq").setLevel(logging.WARNING)
    distill(options)
