"""The benchmark runs on small sizes and measures what it says."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_quantizer.py"


def test_benchmark_writes_a_row_for_each_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    sizes = ["--vectors", "500", "--dim", "8", "--codes", "100", "1000", "--samples", "2"]
    arguments = [*sizes, "--repeats", "2", "--warmup", "0", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    rows = json.loads(file.read_text())["rows"]
    methods = ["distance product", "one-hot", "hard", "monte_carlo", "posterior"]
    assert [(row["codes"], row["method"]) for row in rows] == [
        (k, name) for k in (100, 1000) for name in methods
    ]
    assert all(row["median_ms"] >= row["min_ms"] > 0 for row in rows)
    # The one-hot formulation holds several (500, 1000) fp32 matrices at once.
    peaks = {row["method"]: row["peak_mib"] for row in rows if row["codes"] == 1000}
    assert peaks["one-hot"] > 2 * 500 * 1000 * 4 / 2**20
    assert peaks["hard"] < peaks["one-hot"]
    assert "median ms" in capsys.readouterr().out
