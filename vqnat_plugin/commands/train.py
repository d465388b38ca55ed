r"""Train with fairseq: on all GPUs, or with one worker a core, up to 8, where there is none.

Takes everything that fairseq-train takes, and passes it on with --user-dir. --fairseq-help shows all of that
for the --task, --arch and --criterion beside it.

  vqnat train runs/data/bin --task translation_vq --arch vq_nat_em_small --criterion vq_nat_loss \
      --optimizer adam --lr 1e-3 --batch-tokens 4096 --mixed-precision --save-dir runs/student
  vqnat train --task translation_vq --arch vq_nat_em --criterion vq_nat_loss --fairseq-help
"""

from dataclasses import dataclass

from ..errors import GOES_ON, UsageError
from ..options import MOST_PROCESSES, option

INTERRUPTED = GOES_ON

# fairseq's options that say how large a batch is.
SIZES = {"--max-tokens", "--batch-size", "--max-sentences"}


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat train`; the others are fairseq's."""

    workers: int | None = option(
        None, "processes on a CPU (default: one a core, up to 8)", least=1, most=MOST_PROCESSES
    )
    batch_tokens: int | None = option(
        None,
        "tokens (of a pair, those of the longer side) or images a batch, over all processes (fairseq's "
        "--max-tokens counts one process)",
        least=1,
    )
    threads: int | None = option(
        None,
        "threads of each process on a CPU (default: the cores, shared out evenly); say 1 with --workers 1 "
        "when several trainings run side by side",
        least=1,
        most=MOST_PROCESSES,
    )
    mixed_precision: bool = option(False, "--fp16 on GPUs, --amp on a CPU")
    fairseq_help: bool = option(False, "show the options of fairseq-train and of the model, and end")
    arguments: tuple[str, ...] = option((), "what fairseq-train takes", rest=True)


def run(options: Options) -> int:
    """Train; the exit status."""
    from .. import launch

    arguments = launch.with_plugin(list(options.arguments))
    given = launch.flags(arguments)
    if not options.fairseq_help and not given & {"--arch", "-a"}:
        raise UsageError("needs --arch, for example --arch vq_nat_em_small")
    if options.fairseq_help:
        return launch.run_workers([launch.worker_process([*arguments, "--help"])], {})
    if options.batch_tokens is None and not given & SIZES:
        raise UsageError("needs a batch size: --batch-tokens, or fairseq's --max-tokens or --batch-size")
    return launch.train(
        arguments,
        workers=options.workers,
        batch_tokens=options.batch_tokens,
        threads=options.threads,
        mixed_precision=options.mixed_precision,
    )
