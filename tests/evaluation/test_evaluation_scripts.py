"""The command lines, run in this process: importing fairseq anew takes seconds."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"scripts/{script}", *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    path = tmp_path / "generated.txt"
    path.write_text("D-1\t-0.1\tzwei gute alte Häuser\nD-0\t-0.1\tein Haus steht dort\n")
    (tmp_path / "test.de").write_text("ein Haus steht dort\nzwei gute alte Häuser\n")
    return path


def test_scores_latency_and_logs_become_a_report(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    generated: Path,
    tmp_path: Path,
    tiny_corpus: Path,
    tiny_teacher: Path,
) -> None:
    for system in ("teacher_greedy", "other"):
        out = tmp_path / "scores" / f"{system}.json"
        arguments = ("--system", system, "--generated", generated, "--references", tmp_path / "test.de")
        run(monkeypatch, "score.py", *arguments, "--out", out)
    threads = torch.get_num_threads()
    try:
        systems = (
            "--system",
            f"teacher_beam={tiny_teacher};beam=2",
            "--system",
            f"teacher_greedy={tiny_teacher}",
        )
        options = (
            "--baseline",
            "teacher_greedy",
            "--sentences",
            2,
            "--batch-sizes",
            1,
            "--warmup",
            0,
            "--cpu",
        )
        run(monkeypatch, "benchmark.py", tiny_corpus, *systems, *options, "--out", tmp_path / "latency.json")
    finally:
        torch.set_num_threads(threads)
    (tmp_path / "train.log").write_text(
        '{"loss": "2", "num_updates": "10"}\n{"loss": "1", "num_updates": "20"}\n'
    )
    (tmp_path / "latents.json").write_text('{"usage": 0.5}')
    (tmp_path / "stages.tsv").write_text("teacher\t10\n")
    (tmp_path / "commands.txt").write_text("run.sh --out here\n")
    capsys.readouterr()
    run(
        monkeypatch,
        "report.py",
        *("--out", tmp_path / "report", "--title", "A title", "--seed", 1),
        *("--scores", tmp_path / "scores", "--latency", tmp_path / "latency.json"),
        *("--train-log", f"teacher={tmp_path / 'train.log'}", "--latents", tmp_path / "latents.json"),
        *("--stages", tmp_path / "stages.tsv", "--commands-file", tmp_path / "commands.txt"),
    )
    names = ["quality_speed.png", "report.json", "report.md", "training.png"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == names
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    greedy = report["systems"]["teacher_greedy"]
    assert greedy["bleu"] == pytest.approx(100) and greedy["speedup_vs_greedy"] == 1
    assert report["latency"]["beam_baseline"] == "teacher_beam"
    assert report["commands"] == ["run.sh --out here"]
    table = capsys.readouterr().out
    assert "| teacher_greedy | 100.0 |" in table
    assert table.splitlines()[0] in (tmp_path / "report" / "report.md").read_text()


def test_a_report_needs_no_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(monkeypatch, "report.py", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "score.py",
            ("--system", "a", "--generated", "none", "--references", "x", "--out", "o"),
            "score: none: cannot",
        ),
        (
            "benchmark.py",
            ("data", "--system", "a=none.pt", "--out", "o"),
            "benchmark: system a: no checkpoint none.pt",
        ),
        ("benchmark.py", ("data", "--system", "none.pt", "--out", "o"), "needs the form NAME=CHECKPOINT"),
        ("report.py", ("--out", "o", "--latency", "none.json"), "report: none.json: cannot be read"),
    ],
)
def test_mistakes_end_with_one_line_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, script, *arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "benchmark.py",
            ("data", "--system", "a=b", "--out", "o", "--threads", "0"),
            "--threads: 0: needs at least 1",
        ),
        ("benchmark.py", ("data", "--out", "o"), "--system"),
        (
            "report.py",
            ("--out", "o", "--train-log", "student"),
            "--train-log student: needs the form NAME=FILE",
        ),
        ("score.py", ("--system", "a"), "--generated"),
    ],
)
def test_bad_flags_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, script, *arguments)
    assert message in capsys.readouterr().err
