"""The few collective operations that the codebook needs. On a single process none of them acts."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def rank(group: dist.ProcessGroup | None = None) -> int | None:
    """This process's rank in `group` (in all when absent); None when there is only one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return None
    return dist.get_rank(group)


def gather_rows(rows: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The rows (n, ...) of all ranks, in the order of the ranks; n is the same on all of them."""
    if rank(group) is None:
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, rows.contiguous(), group=group)
    return torch.cat(parts)


def gather_ragged_rows(rows: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """As `gather_rows`, but n may differ between ranks."""
    if rank(group) is None:
        return rows
    lengths = gather_rows(torch.tensor([rows.shape[0]], device=rows.device), group).tolist()
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: rows.shape[0]] = rows
    parts = gather_rows(padded, group).chunk(len(lengths))
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def copy_from_first_rank(tensor: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Overwrites `tensor` with that of the first rank of the group, in place."""
    if rank(group) is not None:
        dist.broadcast(tensor, src=0 if group is None else dist.get_global_rank(group, 0), group=group)
