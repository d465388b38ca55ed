"""The benchmark of quantisers runs on small sizes and measures what it says."""

import json
from pathlib import Path

import pytest
import torch

from vqnat_plugin.commands.main import main
from vqnat_plugin.evaluation import quantizer_benchmark
from vqnat_plugin.evaluation.quantizer_benchmark import PEER, Mixture, has_peer

SIZES = ["--vectors", "500", "--dim", "8", "--codes", "100", "1000", "--samples", "2"]


@pytest.fixture(autouse=True)
def _same_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_benchmark_writes_a_row_for_each_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SIZES, "--repeats", "2", "--warmup", "0", "--steps", "0", "--out", str(tmp_path / "out")]
    assert main(["benchmark", "quantizer", *arguments]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = report["speed"]
    methods = ["distance product", "hard", "monte_carlo", "posterior", "posterior, flat", "one-hot"]
    methods += [PEER] * has_peer()
    assert [(row["codes"], row["method"]) for row in rows] == [
        (k, name) for k in (100, 1000) for name in methods
    ]
    assert all(row["median_ms"] >= row["min_ms"] > 0 for row in rows)
    # The one-hot formulation holds several (500, 1000) fp32 matrices at once.
    peaks = {row["method"]: row["peak_mib"] for row in rows if row["codes"] == 1000}
    assert peaks["one-hot"] > 2 * 500 * 1000 * 4 / 2**20
    assert peaks["hard"] < peaks["one-hot"]
    assert report["quality"] == [] and "mixture" not in (tmp_path / "out" / "report.md").read_text()
    shown = capsys.readouterr().out
    assert "median ms" in shown and (tmp_path / "out" / "report.md").read_text() in shown


def test_quality_is_the_excess_over_the_true_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COMPONENTS", 8), ("DIM", 4), ("BATCH", 128), ("TEST", 2048)):
        monkeypatch.setattr(quantizer_benchmark, name, value)
    rows = {row["method"]: row for row in quantizer_benchmark.quality(60, [1, 2])}
    assert set(rows) >= {"hard", "monte_carlo", "posterior", "hard, no revival"}
    # Eight Gaussians are found, or all but two of them: K-means has local optima. Codes that are no means
    # would leave several times the error.
    for name in ("hard", "monte_carlo", "posterior"):
        assert all(-0.02 < excess < 1.5 for excess in rows[name]["excess"]), rows[name]
        assert min(rows[name]["excess"]) < 0.1
        assert rows[name]["usage"] == [1.0, 1.0]
    assert torch.equal(Mixture(3).draw(5), Mixture(3).draw(5))


def test_a_report_with_both_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer_benchmark, "TEST", 512)
    few = ["--repeats", "1", "--warmup", "0", "--steps", "2", "--seeds", "2"]
    assert main(["benchmark", "quantizer", *SIZES, *few, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "excess error" in text and "±" in text and "monte_carlo" in text
    assert "vqnat benchmark quantizer --vectors 500 --dim 8 --codes 100 1000 --samples 2" in text


@pytest.mark.slow
def test_compiled_steps(tmp_path: Path) -> None:
    few = [
        "--vectors",
        "50",
        "--dim",
        "4",
        "--codes",
        "20",
        "--repeats",
        "1",
        "--warmup",
        "1",
        "--steps",
        "0",
    ]
    assert main(["benchmark", "quantizer", *few, "--compiled", "--out", str(tmp_path)]) == 0
    assert "monte_carlo, compiled" in (tmp_path / "report.md").read_text()


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "quantizer", "--device", "cuda"])
    assert ended.value.code == 2
    assert "--device cuda: torch sees no GPU here; use --device cpu" in capsys.readouterr().err
