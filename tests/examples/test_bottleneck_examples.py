"""The examples of the quantisers run as they are, and learn."""

import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from tiny import STUDENT, TRAINING

from vqnat_plugin.bottleneck import Settings, build, registry

EXAMPLES = Path(__file__).parents[2] / "examples" / "bottleneck"


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints; nothing may be wrong with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def errors(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"error ([\d.]+)", text)]


@pytest.mark.slow
def test_images(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("images.py", capsys)
    first, *_, last = errors(text)
    assert last < first / 3
    assert int(re.findall(r"(\d+) codes in use", text)[-1]) > 64


def test_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("sequences.py", capsys)
    assert errors(text)[-1] < errors(text)[0] * 1.05
    # A code for each state, and next to no vector with another one.
    assert 12 <= int(re.findall(r"(\d+) pairs", text)[-1]) <= 16
    assert re.search(r"codes of the first sequence: \[\d+", text)


@pytest.mark.slow
def test_audio(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("audio.py", capsys)
    assert errors(text)[-1] < errors(text)[0] / 3
    decibels = [float(value) for value in re.findall(r"([-\d.]+) dB", text)]
    # Each further level helps.
    assert len(decibels) == 6 and decibels == sorted(decibels) and decibels[-1] > decibels[0] + 1


@pytest.fixture
def own_kind(tmp_path: Path) -> Path:
    """The folder with the quantiser that the README shows."""
    text = (EXAMPLES / "README.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "my_kinds"
    folder.mkdir()
    (folder / "__init__.py").write_text(block)
    return folder


def test_a_kind_of_ones_own_is_like_the_others(own_kind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    runpy.run_path(str(own_kind / "__init__.py"))
    with pytest.raises(ValueError, match="codebook_size is 8, must be 2"):
        build("signs", Settings(8, 4))
    quantizer = build("signs", Settings(16, 4))
    z, mask = torch.randn(2, 5, 4, requires_grad=True), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    out = quantizer(z, mask)
    assert torch.equal(out.quantized[mask], z[mask].sign()) and not out.quantized[~mask].any()
    assert torch.equal(quantizer.lookup(out.codes)[mask], out.quantized[mask])
    assert int(quantizer.histogram.sum()) == 8
    assert out.soft_codes.shape == (2, 5, 16) and float(out.soft_codes.sum()) == 8
    (out.quantized.sum() + out.commitment_loss).backward()
    assert z.grad is not None and bool(z.grad[mask].all()) and not z.grad[~mask].any()


def test_names_of_other_modules_are_not_taken() -> None:
    with pytest.raises(ValueError, match=r"name is 'em', must be another, since vqnat_plugin\.bottleneck\."):
        registry.register("em", "mine")(lambda settings: build("hard", settings))


def test_a_kind_of_ones_own_is_trained_and_measured(
    own_kind: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    def vqnat(*words: str) -> str:
        command = [sys.executable, "-m", "vqnat_plugin", *words, "--user-dir", str(own_kind)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert found.returncode == 0, found.stderr
        return found.stdout

    out = tmp_path / "out"
    flags = [*STUDENT.split(), *TRAINING.split(), "--max-update=4", "--bottleneck=signs", "--code-dim=4"]
    vqnat("train", str(tiny_corpus), *flags, "--save-dir", str(out))
    shown = vqnat("latents", str(out / "checkpoint_last.pt"), "--gen-subset=train", "--cpu")
    assert re.search(r"^perplexity: [1-9]", shown, re.MULTILINE)
    exported = tmp_path / "exported"
    vqnat("export", str(out), "--out", str(exported))
    assert (exported / "writer.onnx").is_file()
