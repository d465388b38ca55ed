"""Grids: their file, their trainings (each once, resumable), their report."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fairseq import options
from tiny import STUDENT, TRAINING
from vqnat_plugin.ablation import run

from vqnat_plugin.errors import DataError
from vqnat_plugin.recipes.cells import Runner, Settings, run_grid
from vqnat_plugin.recipes.grid import Cell, Comparison, Grid, Row, read_grid
from vqnat_plugin.recipes.grid_report import comparison_table, summary

ROOT = Path(__file__).resolve().parents[2]

GRID = """
caption: >-
  Two lines
  of text.
seeds: [1, 2]
train: --lr 1 --save 'a b'
comparisons:
  one:
    title: First
    paper: something
    rows:
      hard: --bottleneck hard
      raw: {flags: --bottleneck hard, data: raw}
  two:
    title: Second
    paper: nothing
    curves: true
    seeds: [2]
    train: --lr 2
    rows:
      again: {flags: --lr 1 --bottleneck hard}
      plain: ""
"""


def grid_file(folder: Path, text: str = GRID) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(
        folder / "raw", folder / "distilled", folder / "teacher.pt", (folder / "test.de",), folder, **changes
    )


# The file.


def test_flags_are_put_together(tmp_path: Path) -> None:
    grid = read_grid(grid_file(tmp_path))
    assert grid.caption == "Two lines of text."
    one, two = grid.comparisons
    assert (one.title, one.paper, one.curves, two.curves) == ("First", "something", False, True)
    hard, raw = one.rows
    shared = ("--lr", "1", "--save", "a b")
    assert hard.cells == tuple(Cell("distilled", (*shared, "--bottleneck", "hard"), seed) for seed in (1, 2))
    assert [cell.data for cell in raw.cells] == ["raw", "raw"]
    again, plain = two.rows
    assert again.cells == (Cell("distilled", (*shared, "--lr", "2", "--lr", "1", "--bottleneck", "hard"), 2),)
    assert plain.cells[0].flags == (*shared, "--lr", "2")


def test_the_same_training_is_run_once_and_first_seeds_first() -> None:
    first, second = Cell("raw", ("--a",), 1), Cell("raw", ("--a",), 2)
    other = Cell("distilled", ("--a",), 1)
    rows = (Row("x", (first, second)), Row("y", (other,)))
    grid = Grid("", (Comparison("a", "", "", rows), Comparison("b", "", "", rows[::-1])))
    assert grid.cells() == [first, other, second]
    assert len({cell.name for cell in grid.cells()}) == 3
    assert first.name.split("-")[0] == second.name.split("-")[0] != other.name.split("-")[0]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds: [1, 2]", "seeds: []", "'seeds' must be whole numbers from 1"),
        ("seeds: [1, 2]", "seeds: [0]", "'seeds' must be whole numbers from 1"),
        ("caption:", "captain:", "'caption' must be given"),
        ("curves: true", "curve: true", "grid.yaml: two: unknown entry 'curve'"),
        ("curves: true", "curves: 3", "grid.yaml: two: 'curves' must be given, as bool, but is 3"),
        ("data: raw", "data: cooked", "raw: 'data' is 'cooked', must be one of raw, distilled"),
        ('plain: ""', "plain: 7", "plain: must be flags, or a mapping"),
        ("seeds: [1, 2]", "seeds: [1, 2", "not YAML"),
    ],
)
def test_errors_say_where(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_grid(grid_file(tmp_path, GRID.replace(before, after)))
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read"):
        read_grid(tmp_path / "none.yaml")


def test_flags_of_the_example_exist() -> None:
    grid = read_grid(ROOT / "examples" / "ablations" / "grid.yaml")
    for cell in grid.cells():
        words = ["DATA", *(flag if flag != "TEACHER" else "T.pt" for flag in cell.flags)]
        parsed = options.parse_args_and_arch(options.get_training_parser(), words)
        assert parsed.task == "translation_vq" and parsed.max_update == 1000
        assert parsed.code_revival_until < parsed.max_update
    headlines = {"distillation", "assignment", "gumbel", "collapse"}
    assert headlines <= {comparison.name for comparison in grid.comparisons}
    for comparison in grid.comparisons:
        seeds = 2 if comparison.name in headlines else 1
        assert all(len(row.cells) >= seeds for row in comparison.rows), comparison.name


# Running.


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cell, given = Cell("distilled", ("--init-from-teacher", "TEACHER"), 3), settings(tmp_path)
    command = run.train_command(cell, given)
    assert str(tmp_path / "distilled") in command and str(tmp_path / "raw") not in command
    assert command[command.index("--init-from-teacher") + 1] == str(tmp_path / "teacher.pt")
    assert command[command.index("--seed") + 1] == "3" and command[-1] == "--cpu"
    checkpoints = given.folder(cell) / "checkpoints"
    assert str(checkpoints / "checkpoint_last.pt") in run.measure_command(cell, given)
    # The best one may be from before a collapse.
    checkpoints.mkdir(parents=True)
    (checkpoints / "checkpoint_best.pt").touch()
    assert str(checkpoints / "checkpoint_last.pt") in run.measure_command(cell, given)


def scripted(monkeypatch: pytest.MonkeyPatch, train: str, measure: str = "") -> None:
    """Lets cells run a few lines of Python, which find the cell's folder as `folder`."""

    def command(code: str, folder: Path) -> list[str]:
        head = f"import pathlib; folder = pathlib.Path({str(folder)!r})\n"
        return [sys.executable, "-I", "-S", "-c", head + code]

    monkeypatch.setattr(run, "train_command", lambda cell, s: command(train, s.folder(cell)))
    monkeypatch.setattr(run, "measure_command", lambda cell, s: command(measure, s.folder(cell)))


SAVE = (
    "(folder / 'checkpoints').mkdir(exist_ok=True); (folder / 'checkpoints' / 'checkpoint_last.pt').touch()"
)


def grid_of(*cells: Cell) -> Grid:
    return Grid("", (Comparison("c", "", "", tuple(Row(cell.name, (cell,)) for cell in cells)),))


def test_done_cells_stay_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, f"{SAVE}; open(folder / 'runs', 'a').write('x')")
    cells = [Cell("raw", (flag,), 1) for flag in ("--a", "--b", "--c")]
    given = settings(tmp_path)
    for _ in range(2):
        assert run_grid(grid_of(*cells), given, jobs=2) == 0
    for cell in cells:
        assert (given.folder(cell) / "runs").read_text() == "x"
        assert not list((given.folder(cell) / "checkpoints").iterdir())
        assert json.loads((given.folder(cell) / "cell.json").read_text())["flags"] == list(cell.flags)
    assert run_grid(grid_of(cells[0]), settings(tmp_path / "other", keep_checkpoints=True), jobs=1) == 0
    assert list((tmp_path / "other").glob("cells/*/checkpoints/*.pt"))


def test_failed_cell_leaves_the_others_alone_and_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = f"{SAVE}; assert not (folder / 'bad').exists(), 'on purpose'"
    scripted(monkeypatch, fails)
    good, bad = Cell("raw", ("--a",), 1), Cell("raw", ("--b",), 1)
    given = settings(tmp_path)
    given.folder(bad).mkdir(parents=True)
    (given.folder(bad) / "bad").touch()
    assert run_grid(grid_of(bad, good), given, jobs=1) == 1
    shown = capsys.readouterr().out
    assert f"{bad.name} FAILED (exit status 1; its log is {given.folder(bad) / 'train.log'})" in shown
    assert "on purpose" in (given.folder(bad) / "train.log").read_text()
    runner = Runner(given)
    assert runner.is_done(good) and not runner.is_done(bad)
    (given.folder(bad) / "bad").unlink()
    assert run_grid(grid_of(bad, good), given, jobs=1) == 0 and runner.is_done(bad)
    # It went on from a checkpoint, so nobody knows how long it took.
    assert json.loads((given.folder(bad) / run.DONE).read_text()) == {"seconds": None}
    assert json.loads((given.folder(good) / run.DONE).read_text())["seconds"] >= 0


def test_stopping_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, "open(folder / 'ready', 'w').write('x'); import signal; signal.pause()")
    runner, cell = Runner(settings(tmp_path)), Cell("raw", (), 1)
    folder = runner.settings.folder(cell)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "ready")
    failures: list[Exception] = []

    def work() -> None:
        try:
            runner.run(cell)
        except DataError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert (folder / "ready").read_text() == "x"
    runner.stop()
    thread.join(timeout=60)
    assert not thread.is_alive() and "exit status -15" in str(failures[0]) and not runner.is_done(cell)


# The report.


def test_summary_of_seeds() -> None:
    assert summary([1.0, 2.0, None], ".1f") == "1.5 ± 0.5"
    assert summary([3.0], ".2f") == "3.00" and summary([None], ".1f") == ""


def test_table_leaves_out_what_nobody_knows() -> None:
    cell = {
        "systems": {"predicted": {"bleu": 20.0}},
        "predictor": {"accuracy": 0.5, "perplexity": 4.0},
        "codes": {"usage": 0.25, "perplexity": 10.0},
        "posterior_entropy": None,
        "seconds": 120,
    }
    comparison = Comparison("c", "C", "p", (Row("a", ()), Row("b", ())))
    lines = comparison_table(comparison, {"a": [cell, cell], "b": []}).splitlines()
    assert "entropy" not in lines[0] and "candidates" not in lines[0]
    assert [part.strip() for part in lines[2].split("|")][1:4] == ["a", "20.0 ± 0.0", "0.500 ± 0.000"]
    assert lines[3].split("|")[-2].strip() == "0"


def test_script_end_to_end(tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    shared = f"{STUDENT} {TRAINING}".replace("--seed 1 --cpu", "").replace("--log-format none", "")
    text = f"""
caption: Tiny.
seeds: [1]
train: {shared} --max-update 8 --log-interval 2
comparisons:
  assignment:
    title: Hard and soft
    paper: soft is better
    note: too small to tell
    curves: true
    rows:
      hard: --bottleneck hard
      soft: {{flags: --bottleneck em --em-samples 3, data: raw}}
"""
    reference = tiny_corpus.parent / "text" / "test.de"
    command = ["scripts/ablate.py", str(grid_file(tmp_path, text)), "--raw", str(tiny_corpus)]
    command += ["--distilled", str(tiny_corpus), "--teacher", str(tiny_teacher), "--out", str(tmp_path)]
    command += ["--references", str(reference), "--detokenizer", "space", "--jobs", "2"]
    commands = tmp_path / "commands.txt"
    commands.write_text("scripts/ablate.py grid.yaml\n")
    command += ["--commands-file", str(commands)]
    outputs = []
    for flags in ([], ["--report-only"]):
        done = subprocess.run(
            [sys.executable, *command, *flags], cwd=ROOT, timeout=500, text=True, stdout=subprocess.PIPE
        )
        logs = "".join(log.read_text()[-1500:] for log in tmp_path.glob("cells/*/*.log"))
        assert done.returncode == 0, logs
        outputs.append(done.stdout)
    assert "2 trainings, 0 done before" in outputs[0] and "trainings" not in outputs[1]
    assert outputs[0].split("Tiny.")[1] == outputs[1].split("Tiny.")[1]
    report = (tmp_path / "report.md").read_text()
    assert "Here: too small to tell" in report and "scripts/ablate.py grid.yaml" in report
    assert "the teacher, greedy: " in report and "- sacreBLEU: nrefs:1|" in report
    assert "The paper: soft is better." in report and "| hard" in report and "| soft" in report
    content = json.loads((tmp_path / "report.json").read_text())
    assert str(tmp_path) not in json.dumps(content["comparisons"])
    rows = content["comparisons"]["assignment"]["rows"]
    assert rows["soft"]["cells"][0]["posterior_entropy"] is not None
    assert rows["hard"]["cells"][0]["systems"]["predicted"]["bleu"] >= 0
    for name in ("assignment.png", "assignment_curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
