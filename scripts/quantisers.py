"""The bottleneck's quantisers side by side: a part of the README's section on them."""

import statistics
from pathlib import Path
from typing import Any

from reports import mean_bleu, read_report, table

from vqnat_plugin.evaluation.quantizer_benchmark import FLAT, PEER


def quantisers(examples: Path) -> str:
    """EM beside the peer: time, memory, how well codes are found; and beside what came after it."""
    report, link = read_report(examples, "bottleneck/results")
    settings = report["settings"]
    size = min(row["codes"] for row in report["speed"])
    speed = {row["method"]: row for row in report["speed"] if row["codes"] == size}
    quality = {row["method"]: statistics.mean(row["excess"]) for row in report["quality"]}
    names = {"hard": "hard EM", "monte_carlo": "Monte-Carlo", "posterior": "exact posterior", PEER: PEER}
    default = quality["hard, default revival"]
    best = min(quality[name] for name in quality if name.startswith(PEER))
    excess = [best if name == PEER else quality[name] for name in names]

    def products(name: str) -> str:
        found = f"{speed[name]['products']:.2f}"
        return f"{found} to {speed[FLAT]['products']:.2f}" if name == "posterior" else found

    rows = [
        ["time (1: the product of vectors and codes)", *map(products, names)],
        ["memory, MiB", *(f"{speed[name]['peak_mib']:.0f}" for name in names)],
        ["excess error, mixture of Gaussians", *(f"{value:.1%}" for value in excess)],
    ]
    images, other = read_report(examples, "bottleneck/results/images")

    def bits(cells: list[Any]) -> str:
        return f"{statistics.mean(cell['bits_per_dim']['total_uniform'] for cell in cells):.2f}"

    # "64 values, soft EM": each kind with all its widths.
    kinds: dict[str, list[str]] = {}
    for name, cells in images["results"].items():
        kinds.setdefault(name.partition(", ")[2], []).append(bits(cells))
    compared = ", ".join(f"{name} {' / '.join(found)}" for name, found in kinds.items())
    text, third = read_report(examples, "ablations/results/kinds")
    rows_of_kinds = text["comparisons"]["kinds"]["rows"]
    translated = "; ".join(f"{name} {mean_bleu(row)}" for name, row in rows_of_kinds.items())
    return (
        f"{table(['', *names.values()], rows)}\n\n"
        f"One step, E and M, of {settings['vectors']:,} vectors of {settings['dim']} values and {size:,} "
        f"codes, {settings['threads']} thread; the exact posterior where few codes matter, to "
        f"where most do; {PEER} does hard EM. Error: soft EM with the mixture's true temperature, all of "
        f"ours with `revival_threshold=0.5` (hard EM with its default, 0.3: {default:.1%}), "
        f"{PEER} with the best of three settings ({link}). On images, bits a dimension with a uniform prior "
        f"over codes, the same small budget, three seeds, code vectors of 64 / 4 values (FSQ: 3): {compared} "
        f"({other}). On text, BLEU of small models on Multi30k, greedy, three seeds: {translated} ({third}). "
        "Gumbel-softmax has `commitment_weight=0.02` in both, by which its divergence is weighed; "
        "`Settings` has 0.25 for all kinds."
    )
