"""The script that compares the cost of training runs, and its parts are those of an update."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fairseq.optim.adam import Adam

SCRIPT = Path(__file__).parents[1] / "scripts" / "training_cost.py"


def test_cost_of_both_models_by_parts(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cost.json"
    sizes = ["--size", "tiny", "--max-tokens", "50", "--updates", "2", "--warmup", "1", "--json", str(file)]
    changes = ["--student", "--predictor-layers", "1"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tiny_corpus), *sizes, *changes])
    # What the script switches this process to.
    monkeypatch.setattr(F, "dropout", F.dropout)
    monkeypatch.setattr(Adam, "step", Adam.step)
    threads, flash = torch.get_num_threads(), torch.backends.cuda.flash_sdp_enabled()
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.enable_flash_sdp(flash)
    found = json.loads(file.read_text())
    both = {"encoder", "decoder", "words, losses", "backward", "optimizer", "data", "rest"}
    assert set(found["teacher"]["parts_ms"]) == both
    assert set(found["student"]["parts_ms"]) == {*both, "compressor", "bottleneck", "predictor"}
    assert found["ratio"] > 0 and "student / teacher" in capsys.readouterr().out


def test_figures_are_medians_of_updates() -> None:
    summary = runpy.run_path(str(SCRIPT))["_summary"]
    updates = [{"encoder": 0.1, "rest": 0.1}, {"encoder": 0.3, "rest": 0.2}, {"encoder": 0.2, "rest": 0.5}]
    found = summary(updates, 30)
    assert found["parts_ms"] == {"encoder": 200.0, "rest": 200.0} and found["update_ms"] == 500.0
    assert found["microseconds_per_word"] == pytest.approx(0.5 * 3 / 30 * 1e6)
