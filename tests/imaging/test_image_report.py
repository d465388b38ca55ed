"""The report of an image recipe: its table over seeds, and the files that the script writes."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.imaging.report import results_table

ROOT = Path(__file__).parents[2]


def figures(pixels: float, usage: float = 0.97, prior: float | None = 0.5) -> dict[str, Any]:
    return {
        "pictures": 10,
        "subset": "test",
        "bits_per_dim": {
            "reconstruction": pixels,
            "prior": prior,
            "total": None if prior is None else pixels + prior,
            "uniform_prior": 0.7,
            "total_uniform": pixels + 0.7,
        },
        "bits_per_code": None if prior is None else 6.0,
        "usage": usage,
        "perplexity": 200.0,
        "psnr": 24.5,
        "ssim": 0.8,
    }


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_one_training() -> None:
    header, _, row = cells(results_table({"soft": [figures(3.5)]}))
    assert dict(zip(header, row, strict=True)) == {
        "": "soft",
        "bits/dim": "4.000",
        "pictures": "3.500",
        "codes": "0.500",
        "uniform prior": "4.200",
        "codes used": "97.0%",
        "perplexity": "200",
        "PSNR, dB": "24.50",
        "SSIM": "0.800",
    }


def test_seeds_and_collapsed_runs() -> None:
    pixels = [3.5, 3.6, 3.9]
    many = [figures(value, usage, None) for value, usage in zip(pixels, (0.9, 0.05, 0.02), strict=True)]
    header, _, first, second = cells(results_table({"hard": many, "soft": [figures(3.4, 1.0, None)]}))
    hard, soft = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert "bits/dim" not in hard and hard["pictures"] == "3.667 ± 0.200"
    assert hard["deviation of pictures"] == f"{statistics.stdev(pixels):.4f}"
    assert hard["collapsed"] == "2 of 3" and soft["collapsed"] == "0 of 1"
    assert soft["pictures"] == "3.400" and soft["deviation of pictures"] == ""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/report_images.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "images.json"
    path.write_text(json.dumps(figures(3.5)))
    return path


def test_files(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "reconstructions.png").touch()
    (tmp_path / "stages.tsv").write_text("autoencoder\t600\nprior\t300\n")
    (tmp_path / "commands.txt").write_text(f"scripts/train.py --save-dir {out}/autoencoder\n")
    log = {"epoch": 1, "loss": "3.5", "codebook_usage": "0.9", "num_updates": "100"}
    (tmp_path / "train.log").write_text(f"INFO | train_inner | {json.dumps(log)}\n")
    flags = ["--stages", tmp_path / "stages.tsv", "--commands-file", tmp_path / "commands.txt", "--seed", "3"]
    words = ["--result", f"soft={result}", "--train-log", f"autoencoder={tmp_path / 'train.log'}"]
    done = run("--out", out, "--title", "Cats", "--note", "of one cat", *words, *flags)
    assert done.returncode == 0, done.stderr
    text = (out / "report.md").read_text()
    assert (
        text.startswith("# Cats")
        and "\n- of one cat\n" in text
        and "4.000" in text
        and "4.000" in done.stdout
    )
    assert "](reconstructions.png)" in text and "](training.png)" in text and "samples.png" not in text
    assert "| total" in text and "900" in text and "seed: 3" in text
    assert "scripts/train.py --save-dir OUT/autoencoder" in text and str(out) not in text
    report = json.loads((out / "report.json").read_text())
    assert report["results"]["soft"][0]["bits_per_dim"]["total"] == 4.0
    assert report["stages"] == {"autoencoder": 600, "prior": 300}
    assert (out / "training.png").stat().st_size > 1000


def test_mistakes(result: Path, tmp_path: Path) -> None:
    wrong = run("--out", tmp_path / "out", "--result", f"soft={tmp_path / 'none.json'}")
    assert wrong.returncode == 1 and "none.json: cannot be read" in wrong.stderr
    wrong = run("--out", tmp_path / "out", "--result", result)
    assert wrong.returncode == 2 and "needs the form NAME=FILE" in wrong.stderr
    assert not (tmp_path / "out").exists()
