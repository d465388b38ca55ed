"""What a distillation is asked to do: its options, and who does which part. Imports nothing heavy."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..options import FOLDER, MOST_BEAM, MOST_PROCESSES, MOST_SEED, MOST_TOKENS, flag, option, require

DATA = "data and teacher"
SEARCH = "search: how the teacher translates; the names are fairseq-generate's"
FILTERS = (
    "filters: translations to leave out; only empty ones unless asked for. Sources that are empty, have "
    "unknown words alone or are too long for the teacher are always left out. Every one is listed in "
    "filtered.tsv, with the first reason that holds"
)
MIXING = "mixing"
MACHINE = (
    "machine: without --sampling none of these changes what is written, but for rounding. What --sampling "
    "draws depends on --max-tokens, --batch-size and --chunk-size, and on whether it is drawn on a GPU"
)
BEAM = 4
# The names of what splits the work, in the environment that torchrun and Slurm's srun give a process.
# A batch script itself has SLURM_NTASKS and SLURM_PROCID too; only srun says how many a step has.
RANKS = (("WORLD_SIZE", "RANK"), ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
LOCAL_RANKS = (("LOCAL_RANK", "LOCAL_RANK"), ("SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))


@dataclass(frozen=True)
class Share:
    """This process's part of the work: rank `rank` of `world_size`, split among `workers` local processes.

    Ranks need not have as many workers each, unless they share the GPUs of one machine. `worker` is one of
    them; None stands for all.
    """

    rank: int = 0
    world_size: int = 1
    workers: int = 1
    local_rank: int = 0
    worker: int | None = None

    def chunks(self, count: int) -> list[int]:
        """Which of `count` chunks fall to this process and its workers, or to the worker."""
        ours = range(self.rank, count, self.world_size)
        return list(ours if self.worker is None else ours[self.worker :: self.workers])

    def of_worker(self, worker: int) -> "Share":
        """The share of local worker `worker`."""
        return dataclasses.replace(self, worker=worker, local_rank=self.local_rank * self.workers + worker)


def share_from_environment(
    environment: Mapping[str, str], rank: int | None = None, world_size: int | None = None, workers: int = 1
) -> Share:
    """This process's share: what is given, else what torchrun or Slurm's srun set, else all of it.

    Raises:
        UsageError: only one half is given, or the rank is not below the world size.
    """
    if (rank is None) != (world_size is None):
        missing = flag("distributed_rank" if rank is None else "distributed_world_size")
        raise UsageError(f"--distributed-rank and --distributed-world-size belong together: add {missing}")
    local_ranks = (name for sign, name in LOCAL_RANKS if sign in environment and name in environment)
    local_rank = next((_whole(environment, name) for name in local_ranks), rank or 0)
    if rank is None or world_size is None:
        rank, world_size = 0, 1
        for size_name, rank_name in RANKS:
            if size_name in environment and rank_name in environment:
                rank, world_size = _whole(environment, rank_name), _whole(environment, size_name)
                break
    if not 0 <= rank < world_size:
        raise UsageError(
            f"--distributed-rank {rank}: must be from 0 to {world_size - 1}, as --distributed-world-size is "
            f"{world_size}"
        )
    return Share(rank=rank, world_size=world_size, workers=workers, local_rank=local_rank)


def _whole(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise UsageError(f"{name}={environment[name]} in the environment: needs a whole number") from None


@dataclass(kw_only=True)
class DistillOptions:
    """Options of `vqnat distill` and of `distillation.run.distill`."""

    data: Path = option(
        ...,
        "binarised data: OUT/bin of `vqnat prepare`, or what fairseq-preprocess wrote",
        exists=FOLDER,
        metavar="DIR",
        group=DATA,
    )
    teacher: Path = option(
        ...,
        "checkpoint of any fairseq translation model with the dictionaries of --data; several, joined by "
        "':', translate as an ensemble",
        metavar="CKPT[:CKPT...]",
        group=DATA,
    )
    out: Path = option(
        ..., "folder to write; new, or of an earlier try", metavar="DIR", group=DATA, writes=FOLDER
    )
    source_lang: str | None = option(
        None, "source language (default: as in --data's file names)", short="-s", metavar="LANG", group=DATA
    )
    target_lang: str | None = option(
        None, "target language (default: as in --data's file names)", short="-t", metavar="LANG", group=DATA
    )
    user_dir: Path | None = option(
        None, "fairseq plugin that the teacher's model or task comes from", metavar="DIR", group=DATA
    )
    restart: bool = option(False, "delete what --out holds of an earlier try and begin anew", group=DATA)

    beam: int | None = option(
        None, f"beam size (default: {BEAM}; 1 with --sampling)", least=1, most=MOST_BEAM, group=SEARCH
    )
    lenpen: float = option(1.0, "length penalty: below 1 shorter, above 1 longer translations", group=SEARCH)
    unkpen: float = option(0.0, "above 0: fewer <unk>", group=SEARCH)
    max_len_a: float = option(
        2.0,
        "a translation has at most A * source sub-words + B sub-words",
        least=0,
        most=MOST_TOKENS,
        metavar="A",
        group=SEARCH,
    )
    max_len_b: int = option(20, "B of --max-len-a", least=0, most=MOST_TOKENS, metavar="B", group=SEARCH)
    min_len: int = option(1, "fewest sub-words", least=0, most=MOST_TOKENS, group=SEARCH)
    no_repeat_ngram_size: int = option(
        0, "no n-gram of this size twice; 0 for no such rule", least=0, group=SEARCH
    )
    sampling: bool = option(
        False,
        "draw each translation at random instead of searching for the best: for back-translation",
        group=SEARCH,
    )
    sampling_topk: int | None = option(
        None,
        "draw each token from the K most probable ones (default: from all)",
        least=1,
        metavar="K",
        group=SEARCH,
    )
    temperature: float = option(
        1.0,
        "divides the logits: below 1 more probable, above 1 more varied samples",
        least=0.001,
        group=SEARCH,
    )
    seed: int = option(1, "which samples to draw", least=0, most=MOST_SEED, group=SEARCH)

    keep_empty: bool = option(False, "keep empty translations", group=FILTERS)
    filter_copies: bool = option(
        False, "leave out translations that equal their source, word for word", group=FILTERS
    )
    filter_ratio: float | None = option(
        None,
        "leave out pairs where one side is more than R times as long as the other, in sub-words",
        least=1,
        metavar="R",
        group=FILTERS,
    )
    filter_repeats: int | None = option(
        None,
        "leave out loops: a token or n-gram (n up to 8) more than N times in a row, and more often than in "
        "the source; 2 is a good start",
        least=1,
        group=FILTERS,
    )
    filter_unk: bool = option(False, "leave out translations with <unk>", group=FILTERS)
    filtered_fallback: str = option(
        "drop",
        "what comes in their place: nothing, or the pair of --data",
        choices=("drop", "raw"),
        group=FILTERS,
    )

    mix: str = option(
        "distilled",
        "train on the distilled pairs, or on all pairs of --data followed by the distilled ones",
        choices=("distilled", "both"),
        group=MIXING,
    )

    workers: int = option(
        1,
        "processes to start here, each with a teacher; 0: one a GPU, or one a core where there is none",
        least=0,
        most=MOST_PROCESSES,
        group=MACHINE,
    )
    distributed_world_size: int | None = option(
        None,
        "processes started elsewhere (default: torchrun's, Slurm's, 1)",
        least=1,
        most=MOST_PROCESSES,
        group=MACHINE,
    )
    distributed_rank: int | None = option(
        None, "which of them this is, from 0 (default: likewise)", least=0, metavar="I", group=MACHINE
    )
    max_tokens: int = option(8192, "source tokens in a batch", least=1, group=MACHINE)
    batch_size: int | None = option(None, "sentences in a batch (default: no limit)", least=1, group=MACHINE)
    chunk_size: int = option(
        512,
        "sentences in a chunk, the unit of sharing and of resuming; has to stay the same",
        least=1,
        group=MACHINE,
    )
    cpu: bool = option(False, "leave GPUs alone", group=MACHINE)
    fp16: bool = option(False, "translate in half precision (GPU only)", group=MACHINE)
    bf16: bool = option(False, "translate in bfloat16", group=MACHINE)
    mixed_precision: bool = option(False, "half precision on a GPU, fp32 on a CPU", group=MACHINE)

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together, and for a teacher that is not there."""
        if not self.teachers:
            raise UsageError("--teacher: needs a checkpoint")
        for path in self.teachers:
            if not path.is_file():
                way = f"is a folder; name a checkpoint in it, as {path / 'checkpoint_best.pt'}"
                raise UsageError(f"--teacher {path}: {way if path.is_dir() else 'no such file'}")
        require(
            self,
            "filtered_fallback",
            self.mix == "distilled" or self.filtered_fallback == "drop",
            "--mix distilled: --mix both has all pairs of --data already",
        )
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out}: is a file; name a folder")
        if self.out.resolve() == self.data.resolve():
            raise UsageError(f"--out {self.out}: is the --data folder itself; choose another")
        if (self.source_lang is None) != (self.target_lang is None):
            raise UsageError("--source-lang and --target-lang belong together: give both or none")
        if self.sampling and (self.beam or 1) > 1:
            raise UsageError(
                f"--sampling --beam {self.beam}: draws one translation a sentence; leave out --beam"
            )
        require(self, "sampling_topk", self.sampling or self.sampling_topk is None, "--sampling")
        precisions = [name for name in ("fp16", "bf16", "mixed_precision") if getattr(self, name)]
        if len(precisions) > 1:
            raise UsageError(f"{' '.join(map(flag, precisions))}: choose one of them")
        # fairseq counts EOS.
        shortest = int(self.max_len_a * 2 + self.max_len_b)
        require(
            self,
            "min_len",
            self.min_len <= shortest,
            f"at most {shortest}, which --max-len-a {self.max_len_a:g} and --max-len-b {self.max_len_b} "
            "allow for a source of one sub-word",
        )
        if self.share.world_size > 1 and self.restart:
            raise UsageError(
                f"--restart with several ranks: one would delete another's work; delete {self.out} yourself"
            )

    @property
    def teachers(self) -> tuple[Path, ...]:
        """The teacher's checkpoints; several make an ensemble."""
        # An empty path reads as ".".
        return tuple(Path(path) for path in str(self.teacher).split(":") if path not in ("", "."))

    @property
    def share(self) -> Share:
        """This process's part, from the options or the environment, see `share_from_environment`."""
        ranks = (self.distributed_rank, self.distributed_world_size)
        return share_from_environment(os.environ, *ranks, self.workers)

    def on(self, gpus: int, cores: int) -> "DistillOptions":
        """The same, with what `--workers 0` and `--mixed-precision` mean on a machine."""
        gpus = 0 if self.cpu else gpus
        half = self.fp16 or (self.mixed_precision and gpus > 0)
        return dataclasses.replace(
            self, workers=self.workers or gpus or cores, fp16=half, mixed_precision=False
        )

    @property
    def precision(self) -> str:
        """The type of the teacher's weights: "fp32", "fp16" or "bf16"; on a machine, see `on`."""
        return "fp16" if self.fp16 else "bf16" if self.bf16 else "fp32"

    def search(self) -> dict[str, Any]:
        """The teacher's search, with fairseq's names and values."""
        names = [field.name for field in dataclasses.fields(self) if field.metadata["group"] == SEARCH]
        return {
            **{name: getattr(self, name) for name in names},
            "beam": self.beam or (1 if self.sampling else BEAM),
            "sampling_topk": self.sampling_topk or -1,
        }
