"""What a distillation is asked to do: which files, how the teacher searches, and who does which part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .filters import Filters


@dataclass(frozen=True)
class Search:
    """The teacher's beam search, with fairseq's names. It decides the translations.

    With `sampling` a translation is drawn word by word instead, with `beam` 1; `seed` says which one.
    """

    beam: int = 4
    lenpen: float = 1.0
    unkpen: float = 0.0
    max_len_a: float = 2.0
    max_len_b: int = 20
    min_len: int = 1
    no_repeat_ngram_size: int = 0
    sampling: bool = False
    sampling_topk: int = -1
    temperature: float = 1.0
    seed: int = 1
    precision: str = "fp32"


@dataclass(frozen=True)
class Share:
    """This process's part of the work: rank `rank` of `world_size`, split among `workers` local processes."""

    rank: int = 0
    world_size: int = 1
    workers: int = 1
    local_rank: int = 0

    def chunks(self, count: int) -> list[int]:
        """Which of `count` chunks fall to this process and its workers."""
        first = self.rank * self.workers
        turns = range(first, first + self.workers)
        return [number for number in range(count) if number % (self.world_size * self.workers) in turns]

    def of_worker(self, worker: int) -> "Share":
        """The share of local worker `worker`, counted among the workers of all ranks."""
        return Share(
            rank=self.rank * self.workers + worker,
            world_size=self.world_size * self.workers,
            local_rank=self.local_rank * self.workers + worker,
        )


def share_from_environment(
    environment: Mapping[str, str], rank: int | None = None, world_size: int | None = None, workers: int = 1
) -> Share:
    """This process's share: what is given, else what torchrun or Slurm's srun set, else all of it.

    Raises:
        DataError: only one half is given, or the rank is not below the world size.
    """
    local_rank = int(environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", rank or 0)))
    if (rank is None) != (world_size is None):
        missing = "--rank" if rank is None else "--world-size"
        raise DataError(f"--rank and --world-size belong together: add {missing}")
    if rank is None or world_size is None:
        for size_name, rank_name in (("WORLD_SIZE", "RANK"), ("SLURM_NTASKS", "SLURM_PROCID")):
            if size_name in environment and rank_name in environment:
                rank, world_size = int(environment[rank_name]), int(environment[size_name])
                break
        else:
            rank, world_size = 0, 1
    if not 0 <= rank < world_size:
        raise DataError(f"--rank {rank}: must be from 0 to {world_size - 1}, as --world-size is {world_size}")
    return Share(rank=rank, world_size=world_size, workers=workers, local_rank=local_rank)


@dataclass(frozen=True)
class Settings:
    """Everything that `distill` needs to know.

    Attributes:
        data: folder that fairseq-preprocess wrote.
        teachers: checkpoints; several make an ensemble.
        out: folder of the distilled data.
        source_lang, target_lang: the pair, or None to read it off the files in `data`.
        user_dir: fairseq plugin that the teacher needs.
        search: how the teacher translates.
        filters: which translations to leave out.
        fallback: what takes the place of one left out: nothing ("drop") or the human translation ("raw").
        mix: "distilled", or "both" for the human pairs followed by the distilled ones.
        chunk_size: sentences in a unit of work.
        max_tokens: source tokens in a batch.
        batch_size: sentences in a batch, or None for no limit.
        share: this process's part.
        cpu: leave the GPUs alone.
        restart: throw away what `out` holds of an earlier attempt.
    """

    data: Path
    teachers: tuple[Path, ...]
    out: Path
    source_lang: str | None = None
    target_lang: str | None = None
    user_dir: str | None = None
    search: Search = field(default_factory=Search)
    filters: Filters = field(default_factory=Filters)
    fallback: str = "drop"
    mix: str = "distilled"
    chunk_size: int = 512
    max_tokens: int = 8192
    batch_size: int | None = None
    share: Share = field(default_factory=Share)
    cpu: bool = False
    restart: bool = False
