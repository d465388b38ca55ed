"""Time, memory and quality of quantisers, side by side: ours, soft EM as usually written, and a peer."""

import functools
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..bottleneck import EMVectorQuantizer
from ..bottleneck.assignment import chunk_rows
from .peak_memory import peak_mebibytes
from .report import made_with, provenance
from .tables import markdown_table, summary

ASSIGNMENTS = ("hard", "monte_carlo", "posterior")
PEER = "vector-quantize-pytorch"
# The exact posterior where most codes matter to a vector, which costs most.
FLAT = "posterior, flat"
Step = Callable[[], object]

# The task of `quality`: a mixture of Gaussians, with a code for each.
COMPONENTS, DIM, SPREAD, BATCH, TEST = 256, 16, 0.25, 1024, 16384
DECAY = 0.99
DEFAULT_STALE = EMVectorQuantizer(2, 1).revival_threshold
# Codes of fewer than half the mean count are replaced: of 2 vectors a batch, by the peer's measure.
STALE = 0.5


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


def ours(
    z: Tensor,
    codes: Tensor,
    samples: int,
    assignment: str,
    compiled: bool = False,
    temperature: float = 1.0,
) -> Step:
    """E and M step of EMVectorQuantizer: z (N, D), codes (K, D)."""
    size, dim = codes.shape
    quantizer = EMVectorQuantizer(size, dim, assignment, samples, temperature).to(z.device)
    quantizer.set_codebook(codes, count=z.shape[0] / codes.shape[0])

    def step() -> None:
        quantizer(z)
        quantizer.update_codebook()

    # Without CUDA graphs: the statistics that a graph has made would be gone when the next one begins.
    return torch.compile(step, fullgraph=True) if compiled else step


def peer(z: Tensor, codes: Tensor) -> Step:
    """The peer's forward in training, which is hard EM with its M step: z (N, D), codes (K, D)."""
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(codes.shape[1], codes.shape[0], decay=0.999, commitment_weight=0.25)
    quantizer.to(z.device).train()
    batch = z[None]
    return lambda: quantizer(batch)


def has_peer() -> bool:
    """Whether the peer is installed."""
    return importlib.util.find_spec("vector_quantize_pytorch") is not None


def milliseconds(
    steps: Mapping[str, Step], device: torch.device, warmup: int, repeats: int
) -> dict[str, list[float]]:
    """Durations of `repeats` calls of each step after `warmup` untimed ones, taken in turn."""
    durations: dict[str, list[float]] = {name: [] for name in steps}
    for number in tqdm(range(warmup + repeats), desc="steps", leave=False):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= warmup:
                durations[name].append(1000 * (time.perf_counter() - start))
    return durations


def speed(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each codebook size and method: one E and M step.

    `products`: how many times the bare distance product, which no method can do without.
    """
    rows: list[dict[str, Any]] = []
    dim, samples, device = settings["dim"], settings["samples"], torch.device(settings["device"])
    for size in settings["codes"]:
        torch.manual_seed(settings["seed"])
        z = torch.randn(settings["vectors"], dim).to(device)
        codes = torch.randn(size, dim).to(device)
        steps = {"distance product": distance_product(z, codes)}
        for assignment in ASSIGNMENTS:
            steps[assignment] = ours(z, codes, samples, assignment)
            if settings["compiled"]:
                steps[f"{assignment}, compiled"] = ours(z, codes, samples, assignment, True)
        # Distances of standard normal vectors have a variance of 6 D; logits then have one of 1.
        flat = math.sqrt(6 * dim)
        steps[FLAT] = ours(z, codes, samples, "posterior", temperature=flat)
        steps["one-hot"] = one_hot(z, codes, samples)
        if has_peer():
            steps[PEER] = peer(z, codes)
        durations = milliseconds(steps, device, settings["warmup"], settings["repeats"])
        product = statistics.median(durations["distance product"])
        for name, step in steps.items():
            median = statistics.median(durations[name])
            rows.append(
                {
                    "codes": size,
                    "method": name,
                    "median_ms": median,
                    "min_ms": min(durations[name]),
                    "products": median / product,
                    "peak_mib": peak_mebibytes(step, device),
                }
            )
    return rows


class Mixture:
    """Vectors of a mixture of `COMPONENTS` Gaussians, of equal weight and of deviation `SPREAD` each."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.centres = torch.randn(COMPONENTS, DIM, generator=self.generator)

    def draw(self, count: int) -> Tensor:
        """(count, DIM)."""
        which = torch.randint(COMPONENTS, (count,), generator=self.generator)
        return self.centres[which] + SPREAD * torch.randn(count, DIM, generator=self.generator)


def _learners() -> dict[str, Callable[[], Any]]:
    """What learns the mixture; the temperature is that of the Gaussians themselves."""
    made: dict[str, Callable[[], Any]] = {
        assignment: functools.partial(
            EMVectorQuantizer,
            COMPONENTS,
            DIM,
            assignment,
            temperature=2 * SPREAD**2,
            decay=DECAY,
            update="forward",
            revival_threshold=STALE,
        )
        for assignment in ASSIGNMENTS
    }
    hard = functools.partial(EMVectorQuantizer, COMPONENTS, DIM, decay=DECAY, update="forward")
    made |= {"hard, default revival": hard, "hard, no revival": functools.partial(hard, revival=False)}
    if has_peer():
        from vector_quantize_pytorch import VectorQuantize

        peers: dict[str, dict[str, Any]] = {"": {}, ", k-means start": {"kmeans_init": True}}
        expiry = STALE * BATCH / COMPONENTS
        peers[", k-means start, expiry"] = {"kmeans_init": True, "threshold_ema_dead_code": expiry}
        for name, options in peers.items():
            made[PEER + name] = functools.partial(VectorQuantize, DIM, COMPONENTS, decay=DECAY, **options)
    return made


def quality(steps: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each method: how well it finds the codes of a mixture of Gaussians.

    `excess`: mean squared error of fresh vectors over that with the true centres as codes, less 1, for each
    seed; `usage`: the fraction of codes in use by them.
    """
    rows = []
    for name, make in tqdm(_learners().items(), desc="mixture", leave=False):
        row: dict[str, Any] = {"method": name, "excess": [], "usage": []}
        for seed in seeds:
            mixture = Mixture(seed)
            torch.manual_seed(seed)
            quantizer = make().train()
            for _ in range(steps):
                quantizer(mixture.draw(BATCH)[None])
            test = mixture.draw(TEST)
            with torch.no_grad():
                quantized, codes, *_ = quantizer.eval()(test[None])
            best = torch.cdist(test, mixture.centres).square().amin(dim=1).mean()
            row["excess"].append(float((test - quantized[0]).square().sum(dim=1).mean() / best) - 1)
            row["usage"].append(len(codes.unique()) / COMPONENTS)
        rows.append(row)
    return rows


def render(report: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    settings = report["settings"]
    where = f"{settings['device']}, {settings['threads']} thread(s)"
    text = [
        "# Quantisers",
        f"Time and memory of one E and M step; {settings['vectors']:,} vectors of {settings['dim']},"
        f" {settings['samples']} samples. Medians of {settings['repeats']} steps, all methods in turn;"
        f" {where}.",
        markdown_table(
            ["codes", "method", "median ms", "products", "peak MiB"],
            [
                [
                    f"{row['codes']:,}",
                    row["method"],
                    f"{row['median_ms']:.1f}",
                    f"{row['products']:.2f}",
                    f"{row['peak_mib']:.1f}",
                ]
                for row in report["speed"]
            ],
        ),
        "- products: times the bare product of vectors and codes, which no method can do without\n"
        "- peak MiB: of the tensors that a step makes, beyond inputs and state\n"
        f"- {FLAT}: at a temperature at which most codes matter to a vector; else a few do\n"
        "- one-hot: soft EM as it is usually written, with all distances and averaged one-hots at once\n"
        f"- {PEER}: hard EM with moving averages, its forward in training",
    ]
    if report["quality"]:
        text += [
            f"How well codes are found: a mixture of {COMPONENTS} Gaussians in {DIM} dimensions, a code for"
            f" each, {settings['steps']} batches of {BATCH:,} vectors, decay {DECAY}.",
            markdown_table(
                ["method", "excess error", "codes used"],
                [
                    [row["method"], summary(row["excess"], ".1%"), summary(row["usage"], ".1%")]
                    for row in report["quality"]
                ],
            ),
            "- excess error: of fresh vectors, beyond that with the true centres as codes; ±: half the range"
            f" over {settings['seeds']} seeds\n"
            f"- revival, expiry: codes of fewer than {STALE * BATCH / COMPONENTS:g} vectors a batch are"
            " replaced, as the peer's documentation has it; by default ours those of fewer than"
            f" {DEFAULT_STALE * BATCH / COMPONENTS:g}",
        ]
    return "\n\n".join([*text, *made_with(report)]) + "\n"


def run(settings: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Measures everything.

    Args:
        settings: the options of `vqnat benchmark quantizer` by name.
        command: that asked for it.
    """
    torch.set_num_threads(settings["threads"])
    seed = settings["seed"]
    seeds = range(seed, seed + settings["seeds"])
    measured = speed(settings)
    learned = quality(settings["steps"], seeds) if settings["steps"] else []
    return {
        "settings": dict(settings),
        "speed": measured,
        "quality": learned,
        **provenance([command], seed=seed),
    }
