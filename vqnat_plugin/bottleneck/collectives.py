"""The few collective operations that the codebook needs; without torch.distributed they do nothing."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Number of ranks in `group` (all ranks when absent); 1 when torch.distributed is not initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)


def sum_over_ranks(tensors: list[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Adds up each tensor over the ranks, in place. All must have one dtype: they travel as one message."""
    if world_size(group) == 1:
        return
    message = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(message, group=group)
    for tensor, part in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def gather_rows(rows: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """All ranks' rows (n_rank, D), one below the other in the order of the ranks; n may differ between ranks."""
    world = world_size(group)
    if world == 1:
        return rows
    size = torch.tensor([rows.shape[0]], device=rows.device)
    sizes = [torch.empty_like(size) for _ in range(world)]
    dist.all_gather(sizes, size, group=group)
    lengths = torch.cat(sizes).tolist()
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def copy_from_first_rank(tensor: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Overwrites `tensor` with that of the group's first rank, in place."""
    if world_size(group) > 1:
        source = 0 if group is None else dist.get_global_rank(group, 0)
        dist.broadcast(tensor, src=source, group=group)
