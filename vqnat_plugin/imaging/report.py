"""The report of image models: figures of one or several trainings, sheets, times, machine, commands."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.report import made_with, provenance
from ..evaluation.tables import escape, markdown_table, summary
from ..files import write_json, write_text

# A codebook has collapsed when the perplexity of its codes is under this share of their number: codes that
# are seen once in a while count as used.
COLLAPSED = 0.1
SHEETS = {
    "reconstructions.png": "Originals, each row over the row of their reconstructions.",
    "samples.png": "Samples of the prior.",
    "codes.png": "Single codes: each at all places of the grid.",
    "progress.png": "Originals, and their reconstructions in the course of the training.",
    "training.png": "",
}
Results = Mapping[str, Sequence[Mapping[str, Any]]]
COLUMNS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("bits/dim", ("bits_per_dim", "total"), ".3f"),
    ("images", ("bits_per_dim", "reconstruction"), ".3f"),
    ("codes", ("bits_per_dim", "prior"), ".3f"),
    ("uniform prior", ("bits_per_dim", "total_uniform"), ".3f"),
    ("codes used", ("usage",), ".1%"),
    ("perplexity", ("perplexity",), ".0f"),
    ("PSNR, dB", ("psnr",), ".2f"),
    ("SSIM", ("ssim",), ".3f"),
)
# What of an evaluation goes into the report: nothing that names a folder.
KEPT = (
    "images",
    "subset",
    "bits_per_dim",
    "bits_per_code",
    "usage",
    "perplexity",
    "psnr",
    "ssim",
)
# What earlier versions did not measure.
ADDED = ("codebook_size",)
JPEG_NOTE = "images are JPEG copies"
NOTES = (
    "images: bits a dimension (one channel of one pixel) of images given their codes; with codes under the "
    "learned prior (bits/dim), or with all codes as likely (uniform prior), upper bounds of -log2 p(image)",
    f"codes used, perplexity: over the whole subset; collapsed: a perplexity under {COLLAPSED:.0%} of the "
    "number of codes",
    "PSNR, SSIM: of the expected image, means over images; ±: half the range over seeds; deviation of "
    "images: standard deviation over seeds",
)


def images_report(
    title: str,
    results: Results,
    notes: Sequence[str],
    stages: Mapping[str, float],
    commands: Sequence[str],
    seed: int | None,
) -> dict[str, Any]:
    """The content of `report.json`: what is given, and the machines and versions that it was measured with.

    Args:
        title: of the report.
        results: by name of a row, what `vqnat images evaluate` wrote (`images.json`) for each of its seeds.
        notes: lines under the table; one is added where the images were JPEG files.
        stages: seconds by stage.
        commands: that made the numbers.
        seed: None where there are several.
    """
    jpeg = any(one.get("jpeg") for many in results.values() for one in many)
    return {
        "title": title,
        "notes": [*([JPEG_NOTE] if jpeg else []), *notes],
        "results": {
            name: [{key: one[key] for key in (*KEPT, *(key for key in ADDED if key in one))} for one in many]
            for name, many in results.items()
        },
        **provenance(commands, stages, seed, [one for many in results.values() for one in many]),
    }


def _find(result: Any, path: Sequence[str]) -> Any:
    for key in path:
        result = result[key]
    return result


def figures(result: Mapping[str, Any]) -> list[Any]:
    """Those that a table shows of what `vqnat images evaluate` wrote; `KeyError` where one is missing."""
    return [_find({key: result[key] for key in KEPT}, path) for _, path, _ in COLUMNS]


def collapsed(result: Mapping[str, Any]) -> bool:
    """Whether the codes of what `vqnat images evaluate` wrote have collapsed (`COLLAPSED`)."""
    if "codebook_size" not in result:
        return bool(result["usage"] < COLLAPSED)
    return bool(result["perplexity"] < COLLAPSED * result["codebook_size"])


def figures_table(results: Results) -> str:
    """One row a name: means over its trainings, half their range, and how many of them collapsed."""
    columns = [
        (title, [summary([_find(one, path) for one in many], spec) for many in results.values()])
        for title, path, spec in COLUMNS
    ]
    if any(len(many) > 1 for many in results.values()):
        spreads = [[one["bits_per_dim"]["reconstruction"] for one in many] for many in results.values()]
        deviations = [statistics.stdev(each) if len(each) > 1 else None for each in spreads]
        columns.append(("deviation of images", [summary([value], ".4f") for value in deviations]))
        counts = [f"{sum(map(collapsed, many))} of {len(many)}" for many in results.values()]
        columns.append(("collapsed", counts))
    known = [(title, values) for title, values in columns if any(values)]
    return markdown_table(
        ["", *(title for title, _ in known)], zip(results, *(values for _, values in known), strict=True)
    )


def table_and_notes(report: Mapping[str, Any]) -> str:
    """The table of a report, what its columns mean, and its own notes."""
    every = [one for many in report["results"].values() for one in many]
    measured = sorted({f"{one['images']:,} images of '{one['subset']}'" for one in every})
    about = [f"measured on {' / '.join(measured)}"] if measured else []
    notes = "\n".join(f"- {escape(note)}" for note in (*about, *NOTES, *report["notes"]))
    return f"{figures_table(report['results'])}\n\n{notes}"


def render_images_report(report: Mapping[str, Any], out: Path) -> str:
    """`report.md`, with those sheets and plots that are in `out`."""
    parts = [f"# {escape(report['title'])}", table_and_notes(report)]
    for name, caption in SHEETS.items():
        if (out / name).is_file():
            parts += [caption] if caption else []
            parts.append(f"![{name}]({name})")
    return "\n\n".join([*parts, *made_with(report)]) + "\n"


def write_images_report(report: dict[str, Any], out: Path) -> None:
    """Write `report.json` and `report.md`; the sheets and plots are in `out` before."""
    write_json(out / "report.json", report)
    write_text(out / "report.md", render_images_report(report, out))
