"""Time, memory and quality of the quantisers, beside vector-quantize-pytorch where it is installed.

Times are medians after warm-up, all methods in turn. Nothing else should run on the machine.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..options import (
    FOLDER,
    MOST_CODES,
    MOST_PROCESSES,
    MOST_ROUNDS,
    MOST_SEED,
    MOST_WIDTH,
    option,
    words,
)

QUALITY = "quality: of the codes that are found for a mixture of Gaussians"


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat benchmark quantizer`."""

    vectors: int = option(4096, "in a batch", least=1, most=MOST_CODES, metavar="N")
    dim: int = option(512, "of a vector", least=1, most=MOST_WIDTH, metavar="D")
    codes: tuple[int, ...] = option(
        (4096, 16384), "sizes of the codebook", least=1, most=MOST_CODES, metavar="K"
    )
    samples: int = option(10, "of a vector, for soft EM", least=1, most=MOST_WIDTH, metavar="M")
    repeats: int = option(9, "timed steps of each method", least=1, most=MOST_ROUNDS)
    warmup: int = option(2, "untimed steps before", least=0, most=MOST_ROUNDS)
    threads: int = option(1, "of torch on the CPU", least=1, most=MOST_PROCESSES)
    device: str = option("cpu", "what to time on", choices=("cpu", "cuda"))
    compiled: bool = option(False, "time steps of torch.compile as well")
    steps: int = option(300, "batches of training; 0: none of it", least=0, most=MOST_ROUNDS, group=QUALITY)
    seeds: int = option(3, "trainings of each method", least=1, most=MOST_ROUNDS, group=QUALITY)
    seed: int = option(1, "the first one", least=0, most=MOST_SEED)
    out: Path | None = option(None, "folder for report.json and report.md", metavar="DIR", writes=FOLDER)

    def check(self) -> None:
        """Raise `UsageError` for a device that is not there."""
        import torch

        from ..errors import UsageError

        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch sees no GPU here; use --device cpu")


def run(options: Options) -> None:
    """Measure, show and write."""
    from ..evaluation.quantizer_benchmark import PEER, has_peer, render, run
    from ..files import alone, write_json, write_text

    settings = dataclasses.asdict(options)
    del settings["out"]
    without_out = dataclasses.replace(options, out=None)
    report = run(settings, shlex.join(["vqnat", "benchmark", "quantizer", *words(without_out)]))
    print(render(report))
    if not has_peer():
        print(f"{PEER} is not installed; for its rows: pip install {PEER}")
    if options.out is not None:
        with alone(options.out):
            write_json(options.out / "report.json", report)
            write_text(options.out / "report.md", render(report))
        print(f"{options.out / 'report.md'}: written, with report.json")
