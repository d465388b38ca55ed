"""The report of an image recipe: its table over seeds, and the files that are written."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.evaluation.training_log import TrainingLog
from vqnat_plugin.imaging.curves import draw_training
from vqnat_plugin.imaging.report import (
    figures_table,
    images_report,
    render_images_report,
    write_images_report,
)

ROOT = Path(__file__).parents[2]


def figures(pixels: float, perplexity: float = 200.0, prior: float | None = 0.5) -> dict[str, Any]:
    return {
        "images": 10,
        "subset": "test",
        "bits_per_dim": {
            "reconstruction": pixels,
            "prior": prior,
            "total": None if prior is None else pixels + prior,
            "uniform_prior": 0.7,
            "total_uniform": pixels + 0.7,
        },
        "bits_per_code": None if prior is None else 6.0,
        "codebook_size": 256,
        "usage": 0.97,
        "perplexity": perplexity,
        "psnr": 24.5,
        "ssim": 0.8,
    }


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_one_training() -> None:
    header, _, row = cells(figures_table({"soft": [figures(3.5)]}))
    assert dict(zip(header, row, strict=True)) == {
        "": "soft",
        "bits/dim": "4.000",
        "images": "3.500",
        "codes": "0.500",
        "uniform prior": "4.200",
        "codes used": "97.0%",
        "perplexity": "200",
        "PSNR, dB": "24.50",
        "SSIM": "0.800",
    }


def test_seeds_and_collapsed_runs() -> None:
    pixels = [3.5, 3.6, 3.9]
    # Most codes are used, but nearly all latents have one of a few.
    many = [figures(value, codes, None) for value, codes in zip(pixels, (26.0, 25.0, 5.0), strict=True)]
    header, _, first, second = cells(figures_table({"hard": many, "soft": [figures(3.4, 200.0, None)]}))
    hard, soft = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert "bits/dim" not in hard and hard["images"] == "3.667 ± 0.200"
    assert hard["deviation of images"] == f"{statistics.stdev(pixels):.4f}"
    assert hard["collapsed"] == "2 of 3" and soft["collapsed"] == "0 of 1"
    assert soft["images"] == "3.400" and soft["deviation of images"] == ""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "reconstructions.png").touch()
    log = {"epoch": 1, "loss": "3.5", "codebook_usage": "0.9", "num_updates": "100"}
    (tmp_path / "train.log").write_text(f"INFO | train_inner | {json.dumps(log)}\n")
    return tmp_path


def test_files(out: Path) -> None:
    stages, commands = {"autoencoder": 600.0, "prior": 300.0}, ["vqnat train --save-dir OUT/autoencoder"]
    report = images_report("Cats", {"soft": [figures(3.5)]}, ["of one cat"], stages, commands, 3)
    assert draw_training({"autoencoder": TrainingLog(out / "train.log")}, out / "training.png")
    write_images_report(report, out)
    text = (out / "report.md").read_text()
    assert "- measured on 10 images of 'test'\n" in text
    assert text.startswith("# Cats") and "\n- of one cat\n" in text and "4.000" in text
    assert "](reconstructions.png)" in text and "](training.png)" in text and "samples.png" not in text
    assert "| total" in text and "900" in text and "seed: 3" in text
    assert "vqnat train --save-dir OUT/autoencoder" in text
    report = json.loads((out / "report.json").read_text())
    assert report["results"]["soft"][0]["bits_per_dim"]["total"] == 4.0
    assert report["stages"] == {"autoencoder": 600, "prior": 300}
    assert (out / "training.png").stat().st_size > 1000


def test_jpeg_files_are_noted_and_folders_left_out() -> None:
    result = figures(3.5) | {"jpeg": True, "data": "/home/me"}
    report = images_report("Cats", {"soft": [figures(3.5)], "hard": [result]}, ["mine"], {}, [], None)
    assert report["notes"] == ["images are JPEG copies", "mine"]
    assert report["results"]["hard"] == [figures(3.5)]


def test_names_break_nothing(tmp_path: Path) -> None:
    report = images_report("a_b *c*", {"x | <b>": [figures(3.5)]}, ["<i> | *x*"], {}, [], None)
    text = render_images_report(report, tmp_path)
    assert "# a_b \\*c\\*" in text and "x \\| &lt;b>" in text and "- &lt;i> \\| \\*x\\*" in text


@pytest.mark.parametrize("folder", ["results", "results/compare"])
def test_committed_reports(folder: str) -> None:
    path = ROOT / "examples" / "cifar10" / folder
    report = json.loads((path / "report.json").read_text())
    assert render_images_report(report, path) == (path / "report.md").read_text()
