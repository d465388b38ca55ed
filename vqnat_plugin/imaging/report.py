"""The report of an image recipe: figures of one or several trainings, pictures, times, machine, commands."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.plots import CODEBOOK_PANELS, Panels
from ..evaluation.report import made_with, markdown_table, provenance
from ..recipes.grid_report import summary

# A codebook of which less is in use than this share has collapsed.
COLLAPSED = 0.1
PICTURES = {
    "reconstructions.png": "Originals, each row over the row of their reconstructions.",
    "samples.png": "Samples of the prior.",
    "codes.png": "Single codes: each at all places of the grid.",
    "progress.png": "Originals, and their reconstructions in the course of the training.",
}
PANELS: Panels = (
    (
        "Loss, with the codebook's own",
        "bits per dimension",
        (("loss", "train", "train"), ("loss", "valid", "valid")),
    ),
    (
        "Pictures given codes",
        "bits per dimension",
        (("pixels_loss", "train", "train"), ("pixels_loss", "valid", "valid")),
    ),
    ("Codes", "bits per code", (("code_bits", "train", "train"), ("code_bits", "valid", "valid"))),
    *CODEBOOK_PANELS,
)
Results = Mapping[str, Sequence[Mapping[str, Any]]]
COLUMNS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("bits/dim", ("bits_per_dim", "total"), ".3f"),
    ("pictures", ("bits_per_dim", "reconstruction"), ".3f"),
    ("codes", ("bits_per_dim", "prior"), ".3f"),
    ("uniform prior", ("bits_per_dim", "total_uniform"), ".3f"),
    ("codes used", ("usage",), ".1%"),
    ("perplexity", ("perplexity",), ".0f"),
    ("PSNR, dB", ("psnr",), ".2f"),
    ("SSIM", ("ssim",), ".3f"),
)


def results_table(results: Results) -> str:
    """One row a name: means over its trainings, half their range, and how many of them collapsed."""

    def find(result: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        for key in path:
            result = result[key]
        return result

    columns = [
        (title, [summary([find(one, path) for one in many], spec) for many in results.values()])
        for title, path, spec in COLUMNS
    ]
    if any(len(many) > 1 for many in results.values()):
        spreads = [[one["bits_per_dim"]["reconstruction"] for one in many] for many in results.values()]
        deviations = [statistics.stdev(each) if len(each) > 1 else None for each in spreads]
        columns.append(("deviation of pictures", [summary([value], ".4f") for value in deviations]))
        collapsed = [sum(one["usage"] < COLLAPSED for one in many) for many in results.values()]
        counts = [f"{n} of {len(many)}" for n, many in zip(collapsed, results.values(), strict=True)]
        columns.append(("collapsed", counts))
    known = [(title, values) for title, values in columns if any(values)]
    return markdown_table(
        ["", *(title for title, _ in known)], zip(results, *(values for _, values in known), strict=True)
    )


NOTES = (
    "- bits/dim: pictures given their codes, plus codes under the learned prior; with a uniform prior beside "
    "it. Both are upper bounds of -log2 p(picture) a dimension (one channel of one pixel)\n"
    f"- codes used, perplexity: over the whole subset; collapsed: under {COLLAPSED:.0%} of the codes used\n"
    "- PSNR, SSIM: of the expected picture, means over pictures; ±: half the range over seeds"
)


def build_report(
    title: str,
    results: Results,
    notes: Sequence[str],
    stages: Mapping[str, float],
    commands: Sequence[str],
    seed: int | None,
) -> dict[str, Any]:
    """The content of `report.json`: what is given, and the machine and versions at hand."""
    kept = ("pictures", "subset", "bits_per_dim", "bits_per_code", "usage", "perplexity", "psnr", "ssim")
    return {
        "title": title,
        "notes": list(notes),
        "results": {
            name: [{key: one[key] for key in kept} for one in many] for name, many in results.items()
        },
        **provenance(commands, stages, seed),
    }


def table_and_notes(report: Mapping[str, Any]) -> str:
    """The table of a report, what its columns mean, and its own notes."""
    notes = [NOTES, *(f"- {note}" for note in report["notes"])]
    return results_table(report["results"]) + "\n\n" + "\n".join(notes)


def render_markdown(report: Mapping[str, Any], out: Path) -> str:
    """`report.md`, with those pictures that are in `out`."""
    parts = [f"# {report['title']}", table_and_notes(report)]
    for name, caption in PICTURES.items():
        if (out / name).is_file():
            parts += [caption, f"![{name}]({name})"]
    if (out / "training.png").is_file():
        parts.append("![training.png](training.png)")
    return "\n\n".join([*parts, *made_with(report)]) + "\n"
