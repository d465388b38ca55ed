"""What one batch after the other leaves for the M step."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .collectives import gather_rows, rank

# At most so many codes are replaced in one M step. It bounds what ranks exchange, and a codebook that is
# stale as a whole comes back over several steps instead of turning over at once.
MAX_REVIVED = 256


class Statistics:
    """Sufficient statistics of EM since the last M step, and a sample of the vectors that were seen.

    Sums are fp64, so that the order of summation (batches, ranks) vanishes when the M step rounds to fp32.
    Plain tensors and not buffers of the codebook: DistributedDataParallel overwrites buffers with the first
    rank's.

    Attributes:
        counts: (blocks, K) n_j. sums: (K, dim) s_j. hits: (blocks, K), how often a code was chosen.
        keys: (R,) and vectors: (R, dim), fp32: of all vectors seen, those with the R largest of independent
            random keys, largest first. A key is log(u) / weight with u uniform, so that samples of batches
            and ranks merge into one weighted sample without replacement (Efraimidis and Spirakis 2006). A
            place without a vector has the key -inf.
    """

    def __init__(self, blocks: int, codebook_size: int, dim: int, device: torch.device) -> None:
        self.counts = torch.zeros(blocks, codebook_size, dtype=torch.float64, device=device)
        self.sums = torch.zeros(codebook_size, dim, dtype=torch.float64, device=device)
        self.hits = torch.zeros_like(self.counts)
        places = min(codebook_size, MAX_REVIVED)
        self.keys = torch.full((places,), -torch.inf, dtype=torch.float32, device=device)
        self.vectors = torch.zeros(places, dim, dtype=torch.float32, device=device)

    def clear(self) -> None:
        """Forgets everything but keeps the memory: getting it anew in every step would take longer."""
        for tensor in (self.counts, self.sums, self.hits):
            tensor.zero_()
        self.keys.fill_(-torch.inf)

    def clear_unless(self, useful: Tensor) -> None:
        """Sets counts and sums to 0 unless `useful` (0-d) is true, and does not wait for it."""
        for tensor in (self.counts, self.sums, self.hits):
            tensor.masked_fill_(~useful, 0.0)

    def keep(self, vectors: Tensor, weights: Tensor, uniforms: Tensor) -> None:
        """Lets vectors (N, dim) into the sample, in proportion to weights (N,); none of weight 0.

        Uniforms (N,) are random numbers from 0 to 1.
        """
        keys = uniforms.log() / weights
        self._merge(keys.masked_fill(weights == 0, -torch.inf), vectors)

    def _merge(self, keys: Tensor, vectors: Tensor) -> None:
        keys, order = torch.cat([self.keys, keys]).sort(descending=True, stable=True)
        places = self.keys.shape[0]
        self.vectors = torch.cat([self.vectors, vectors])[order[:places]]
        self.keys = keys[:places].clone()

    def sample(self) -> tuple[Tensor, Tensor]:
        """Vectors (R, dim), and (R,) bool: whether there is one."""
        return self.vectors, self.keys > -torch.inf

    def reduce(self, group: dist.ProcessGroup | None, with_sample: bool) -> None:
        """Merges the statistics of all ranks, on every rank; the sample too, if it is wanted."""
        if rank(group) is None:
            return
        for tensor in (self.counts, self.sums, self.hits):
            dist.all_reduce(tensor, group=group)
        if with_sample:
            rows = gather_rows(torch.cat([self.keys[:, None], self.vectors], dim=1), group)
            self.keys.fill_(-torch.inf)
            self._merge(rows[:, 0], rows[:, 1:])

    def to(self, device: torch.device) -> None:
        """Moves everything to `device`."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))
