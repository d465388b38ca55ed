"""Arithmetic in fp32 whatever surrounds it."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which autocast changes no type on a device; on "meta" there is none to change."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
