"""The memory that tensors take at most while something runs."""

import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# Its library writes to standard error what no user can put right.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak_mebibytes(step: Callable[[], object], device: torch.device) -> float:
    """Peak memory of the tensors that one call makes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = held = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20
