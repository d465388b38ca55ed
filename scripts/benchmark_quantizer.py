#!/usr/bin/env python3
"""Time and memory of one E and M step of the quantiser, beside the bare distance product and one-hots.

`distance product` is the one (vectors x dim) by (dim x codes) matrix product that no method can do without,
in the chunks of the quantiser. `one-hot` is soft EM as it is usually written: all distances at once,
multinomial sampling, averaged one-hots, two products with them. The others are EMVectorQuantizer's E steps,
each with its M step.

Times are medians after warm-up; memory is the peak of what the tensors of one step take beyond inputs and
state.
Nothing else should run on the machine.
"""

import argparse
import contextlib
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from vqnat_plugin.bottleneck import EMVectorQuantizer
from vqnat_plugin.bottleneck.assignment import chunk_rows
from vqnat_plugin.files import write_json
from vqnat_plugin.machine import describe_machine, describe_versions

ASSIGNMENTS = ("hard", "monte_carlo", "posterior")
Step = Callable[[], object]


def distance_product(z: Tensor, codes: Tensor) -> Step:
    """z E^T and nothing else: z (N, D), codes (K, D)."""
    rows = chunk_rows(codes.shape[0], z.device)

    def step() -> None:
        buffer = z.new_empty(min(rows, z.shape[0]), codes.shape[0])
        for chunk in z.split(rows):
            torch.mm(chunk, codes.t(), out=buffer[: chunk.shape[0]])

    return step


def one_hot(z: Tensor, codes: Tensor, samples: int, decay: float = 0.999, epsilon: float = 1e-5) -> Step:
    """Soft EM with an (N, K) matrix of averaged one-hots: z (N, D), codes (K, D)."""
    codes, size = codes.clone(), codes.shape[0]
    counts, sums = torch.ones(size, device=z.device), codes.clone()

    def step() -> None:
        distances = z.square().sum(1, keepdim=True) - 2 * z @ codes.t() + codes.square().sum(1)
        drawn = torch.multinomial((-distances).softmax(1), samples, replacement=True)
        assigned = torch.zeros_like(distances)
        assigned.scatter_add_(1, drawn, torch.full(drawn.shape, 1.0 / samples, device=z.device))
        quantized = assigned @ codes
        F.mse_loss(z, quantized)
        counts.mul_(decay).add_(assigned.sum(0), alpha=1 - decay)
        sums.mul_(decay).add_(assigned.t() @ z, alpha=1 - decay)
        n = counts.sum()
        codes.copy_(sums / ((counts + epsilon) * n / (n + size * epsilon))[:, None])

    return step


def ours(z: Tensor, codes: Tensor, samples: int, assignment: str) -> Step:
    """E and M step of EMVectorQuantizer: z (N, D), codes (K, D)."""
    size, dim = codes.shape
    quantizer = EMVectorQuantizer(size, dim, assignment, samples=samples).to(z.device)
    quantizer.set_codebook(codes, count=z.shape[0] / codes.shape[0])

    def step() -> None:
        quantizer(z)
        quantizer.update_codebook()

    return step


def milliseconds(step: Step, device: torch.device, warmup: int, repeats: int) -> list[float]:
    """Durations of `repeats` calls after `warmup` untimed ones."""
    durations = []
    for number in range(warmup + repeats):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= warmup:
            durations.append(1000 * (time.perf_counter() - start))
    return durations


@contextlib.contextmanager
def no_standard_error() -> Iterator[None]:
    """Silences the profiler's library, which writes to the file descriptor itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def peak_mebibytes(step: Step, device: torch.device) -> float:
    """Peak memory of the tensors that one call makes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with no_standard_error(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = held = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: needs at least 1")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "(default: %(default)s)"
    parser.add_argument("--vectors", type=positive, default=4096, metavar="N", help=f"in a batch {default}")
    parser.add_argument("--dim", type=positive, default=512, metavar="D", help=f"of a vector {default}")
    parser.add_argument(
        "--codes", type=positive, nargs="+", default=[4096, 16384], metavar="K", help="(default: 4096 16384)"
    )
    parser.add_argument("--samples", type=positive, default=10, metavar="M", help=f"of a vector {default}")
    parser.add_argument(
        "--assignment",
        nargs="+",
        choices=ASSIGNMENTS,
        default=list(ASSIGNMENTS),
        help="E steps (default: all)",
    )
    parser.add_argument("--repeats", type=positive, default=9, metavar="N", help=f"timed steps {default}")
    parser.add_argument("--warmup", type=int, default=2, metavar="N", help=f"untimed steps before {default}")
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help=f"of torch on the CPU {default}"
    )
    parser.add_argument("--device", default="cpu", help=f"cpu or cuda {default}")
    parser.add_argument("--seed", type=int, default=1, help=default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch sees no GPU here; use --device cpu")
    return options


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each codebook size and method."""
    device = torch.device(options.device)
    rows: list[dict[str, Any]] = []
    for size in options.codes:
        torch.manual_seed(options.seed)
        z = torch.randn(options.vectors, options.dim).to(device)
        codes = torch.randn(size, options.dim).to(device)
        methods: dict[str, Callable[[], Step]] = {
            "distance product": functools.partial(distance_product, z, codes),
            "one-hot": functools.partial(one_hot, z, codes, options.samples),
        }
        for assignment in options.assignment:
            methods[assignment] = functools.partial(ours, z, codes, options.samples, assignment)
        for name, make in tqdm(methods.items(), desc=f"{size} codes", leave=False):
            step = make()
            durations = milliseconds(step, device, options.warmup, options.repeats)
            median = statistics.median(durations)
            rows.append({"codes": size, "method": name, "median_ms": median, "min_ms": min(durations)})
            product = next(row for row in rows if row["codes"] == size)
            rows[-1]["products"] = median / product["median_ms"]
            rows[-1]["peak_mib"] = peak_mebibytes(step, device)
    return rows


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    rows = measure(options)
    machine, versions = describe_machine(), describe_versions()
    print(
        f"{options.vectors} vectors of {options.dim}, {options.samples} samples, {options.repeats} steps on"
        f" {options.device}, {options.threads} thread(s)"
    )
    print(", ".join(f"{name}: {value}" for name, value in {**machine, **versions}.items()))
    print(f"\n{'codes':>7}  {'method':<17} {'median ms':>10} {'min ms':>9} {'products':>9} {'peak MiB':>9}")
    for row in rows:
        print(
            f"{row['codes']:>7}  {row['method']:<17} {row['median_ms']:>10.1f} {row['min_ms']:>9.1f}"
            f" {row['products']:>9.2f} {row['peak_mib']:>9.1f}"
        )
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        write_json(
            options.json, {"settings": settings, "rows": rows, "machine": machine, "versions": versions}
        )


if __name__ == "__main__":
    main()
