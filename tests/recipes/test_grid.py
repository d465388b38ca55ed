"""Grids: their file, their trainings (each once, resumable), their report."""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from committed import without_detokenising
from fairseq import options
from tiny import STUDENT, TRAINING
from tiny_images import AUTOENCODER, TEST
from tiny_images import TRAINING as IMAGE_TRAINING

from vqnat_plugin.bottleneck import kinds
from vqnat_plugin.commands.main import TERMINATED, ended_by_sigterm, main
from vqnat_plugin.errors import DataError
from vqnat_plugin.recipes.cells import GridRun, Runner, run_grid
from vqnat_plugin.recipes.grid import Cell, Comparison, Grid, Row, read_grid
from vqnat_plugin.recipes.grid_images import PARTIAL_TIME, ImageKind
from vqnat_plugin.recipes.grid_options import GridOptions
from vqnat_plugin.recipes.grid_report import render_report, write_report
from vqnat_plugin.recipes.grid_translation import TranslationKind, comparison_table

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


def options_of(folder: Path, **changes: Any) -> GridOptions:
    given: dict[str, Any] = {
        "grid": folder / "grid.yaml",
        "data": folder / "raw",
        "distilled": folder / "distilled",
        "teacher": folder / "teacher.pt",
        "ref": (folder / "test.de",),
        "out": folder,
    }
    return GridOptions(**(given | changes))


def translation(folder: Path, **changes: Any) -> GridRun:
    return GridRun(folder, TranslationKind(options_of(folder)), **changes)


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


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        # Nothing is taken from outside the file, and no few lines become gigabytes.
        ("title: First", "title: &t First\n    note: *t", "line 10: references (*name) are not read"),
        ("seeds: [1, 2]", "seeds: " + "[" * 500 + "]" * 500, "nested more than 20 deep"),
        ("caption:", "# " + "x" * 200_000 + "\ncaption:", "larger than 200,000 bytes"),
        ("title: First", "title: !!python/object:os.system {}", "not YAML that can be read"),
        ("title: First", "title: 2020-13-45", "a value that cannot be read"),
        ("title: First", "title: First\n    title: Again", "line 10: 'title' stands twice"),
        ("      hard: --bottleneck hard\n      raw:", "      7: --a\n      '7': ", "'7' stands twice"),
        ("two:", "../two:", "a comparison's name becomes that of files"),
        ("title: Second", "title: First", "two comparisons have the title 'First'"),
        ("--save 'a b'", "--save 'a b", "grid.yaml: 'train' is no command line (No closing quotation)"),
        ("--lr 1 --save 'a b'", '"a\\0b"', "'train' holds a character that no command line can have"),
        ('plain: ""', 'plain: "--seed 3"', "plain: --seed is set for each training; say 'seeds'"),
        ('plain: ""', 'plain: "--save-dir=x"', "plain: --save-dir is set for each training; say where"),
        ("seeds: [2]", "seeds: [true]", "two: 'seeds' must be whole numbers from 1"),
        ("seeds: [2]", "seeds: [2, 2]", "two: 'seeds' must be whole numbers from 1, each another"),
        ("seeds: [2]", "seeds: [4294967296]", "two: 'seeds' must be whole numbers from 1"),
        ("caption:", "measure: sound\ncaption:", "'measure' is 'sound', must be one of translation, images"),
        ("caption:", "measure: images\ncaption:", "raw: 'data' is 'raw', must be one of images"),
        ("caption:", "notes: [1]\ncaption:", "'notes' must be texts, but is [1]"),
        (GRID, "- 1", "must hold 'caption', 'seeds', 'train' and 'comparisons'"),
        (GRID, "", "must hold 'caption', 'seeds', 'train' and 'comparisons'"),
        (
            GRID,
            "caption: c\nseeds: [1]\ntrain: ''\ncomparisons: {}",
            "'comparisons' needs at least one entry",
        ),
        (GRID, "caption: \x00", "not YAML that can be read"),
    ],
)
def test_a_grid_is_data_and_nothing_else(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GRID
    with pytest.raises(DataError) as error:
        read_grid(grid_file(tmp_path, GRID.replace(before, after, 1)))
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_nothing_comes_from_the_environment(tmp_path: Path) -> None:
    text = GRID.replace("paper: something", "paper: ${oc.env:HOME}").replace(
        "--lr 1 --save", "${seeds} --save"
    )
    grid = read_grid(grid_file(tmp_path, text))
    assert grid.comparisons[0].paper == "${oc.env:HOME}" and grid.cells()[0].flags[0] == "${seeds}"


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
    headlines = {"distillation", "assignment", "collapse"}
    assert headlines <= {comparison.name for comparison in grid.comparisons}
    for comparison in grid.comparisons:
        seeds = 2 if comparison.name in headlines else 1
        assert all(len(row.cells) >= seeds for row in comparison.rows), comparison.name


def test_kinds_are_compared_on_the_budget_of_the_other_grid() -> None:
    """Flags that are shared are the same, so that figures can be set side by side."""
    grid, other = (read_grid(ROOT / "examples" / "ablations" / name) for name in ("kinds.yaml", "grid.yaml"))
    assert {len(row.cells) for row in grid.comparisons[0].rows} == {3}
    hard, soft = (
        next(row for row in other.comparisons[1].rows if row.name == name).cells[0]
        for name in ("hard", "soft m = 10")
    )
    assert {hard, soft} <= set(grid.cells())


def test_flags_of_the_image_example_exist() -> None:
    grid = read_grid(ROOT / "examples" / "cifar10" / "grid.yaml")
    assert grid.measure == "images" and len(grid.cells()) == 36
    for cell in grid.cells():
        assert cell.data == "images" and cell.flags[:2] == ("--batch-tokens", "64")
        parsed = options.parse_args_and_arch(options.get_training_parser(), ["DATA", *cell.flags[2:]])
        assert parsed.task == "image_vq" and parsed.max_update == 2000 and parsed.codebook_size == 256
    assert [comparison.title for comparison in grid.comparisons] == ["64 values", "4 values"]
    first, second = (dict((row.name, len(row.cells)) for row in each.rows) for each in grid.comparisons)
    assert first == second and set(first.values()) == {3}


@pytest.mark.parametrize(
    ("path", "task", "codes"),
    [("bottleneck/images.yaml", "image_vq", 256), ("ablations/kinds.yaml", "translation_vq", 512)],
)
def test_every_kind_of_bottleneck_is_compared(path: str, task: str, codes: int) -> None:
    grid = read_grid(ROOT / "examples" / path)
    compared = set()
    for cell in grid.cells():
        # `vqnat train` has that option, fairseq has not.
        words = cell.flags[2:] if cell.flags[0] == "--batch-tokens" else cell.flags
        parsed = options.parse_args_and_arch(options.get_training_parser(), ["DATA", *words])
        assert parsed.task == task and parsed.max_update == 1000 and parsed.codebook_size == codes
        # fairseq leaves out what is not given.
        compared.add(str(getattr(parsed, "bottleneck", "em")))
    # The exact posterior is what soft EM samples from.
    assert compared == set(kinds()) - {"posterior"}
    assert {len(row.cells) for comparison in grid.comparisons for row in comparison.rows} == {3}


# Running.


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cell, kind = (
        Cell("distilled", ("--init-from-teacher", "TEACHER"), 3),
        TranslationKind(options_of(tmp_path)),
    )
    command = kind.train_command(cell, tmp_path / "cell", 2, False)
    assert command[:6] == ["vqnat", "train", "--workers", "1", "--threads", "2"]
    assert str(tmp_path / "distilled") in command and str(tmp_path / "raw") not in command
    assert command[command.index("--init-from-teacher") + 1] == str(tmp_path / "teacher.pt")
    assert command[command.index("--seed") + 1] == "3"
    assert str(tmp_path / "raw") in kind.train_command(Cell("raw", (), 1), tmp_path / "cell", 2, False)
    checkpoints = tmp_path / "cell" / "checkpoints"
    assert command[command.index("--save-dir") + 1] == str(checkpoints)
    assert str(checkpoints / "checkpoint_last.pt") in kind.measure_command(cell, tmp_path / "cell")
    assert "--tokenize" not in kind.measure_command(cell, tmp_path / "cell")
    by_characters = TranslationKind(options_of(tmp_path, tokenize="char"))
    assert by_characters.measure_command(cell, tmp_path / "cell")[-2:] == ["--tokenize", "char"]
    on_valid = TranslationKind(options_of(tmp_path, gen_subset="valid"))
    assert on_valid.measure_command(cell, tmp_path / "cell")[-2:] == ["--gen-subset", "valid"]
    assert ImageKind(options_of(tmp_path, gen_subset="valid")).measure_command(cell, tmp_path)[-1] == "valid"
    # What knows the model while it trains has to know it afterwards.
    own = Cell("raw", ("--user-dir", str(tmp_path)), 1)
    assert kind.measure_command(own, tmp_path / "cell")[-2:] == ["--user-dir", str(tmp_path)]
    shipped = Cell("raw", ("--user-dir", str(ROOT / "vqnat_plugin")), 1)
    assert "--user-dir" not in kind.measure_command(shipped, tmp_path / "cell")
    # The best one may be from before a collapse.
    checkpoints.mkdir(parents=True)
    (checkpoints / "checkpoint_best.pt").touch()
    assert str(checkpoints / "checkpoint_last.pt") in kind.measure_command(cell, tmp_path / "cell")
    command = kind.train_command(cell, tmp_path / "cell", 2, True)
    assert command[:4] == ["vqnat", "train", "--distributed-world-size", "1"] and "--workers" not in command
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert TranslationKind(options_of(tmp_path)).jobs == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert TranslationKind(options_of(tmp_path)).jobs == 4


def test_commands_of_images(tmp_path: Path) -> None:
    kind, flags = ImageKind(options_of(tmp_path)), ("--batch-tokens", "64", "--task", "image_vq")
    assert kind.train_command(Cell("images", flags, 3), tmp_path / "cell", 2, False) == [
        *("vqnat", "train", str(tmp_path / "raw"), *flags, "--image-cache", str(tmp_path / "images")),
        *("--save-dir", str(tmp_path / "cell" / "checkpoints"), "--seed", "3"),
        *("--log-format", "json", "--no-epoch-checkpoints"),
    ]
    assert kind.measure_command(Cell("images", flags, 3), tmp_path / "cell")[:4] == [
        *("vqnat", "images", "evaluate", str(tmp_path / "cell" / "checkpoints" / "checkpoint_last.pt"))
    ]
    # What is trained on all cores is trained alone.
    assert kind.jobs == 1


def scripted(monkeypatch: pytest.MonkeyPatch, train: str, measure: str = "") -> None:
    """Lets cells run a few lines of Python, which find the cell's folder as `folder`."""

    def command(code: str, folder: Path, *more: str) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", HEAD + code, str(folder), *more]

    monkeypatch.setattr(
        TranslationKind, "train_command", lambda kind, cell, folder, threads, gpu: command(train, folder)
    )
    monkeypatch.setattr(
        TranslationKind,
        "measure_command",
        lambda kind, cell, folder: command(measure, folder, kind.teacher, str(kind.beam)),
    )


# The figures that a report shows.
MEASURED = {
    "systems": {name: {"bleu": 1.0, "chrf": 2.0} for name in ("predicted", "candidates", "autoencoder")},
    "losses": {},
    "predictor": {"accuracy": 0.5, "perplexity": 2.0},
    "codes": {"usage": 0.5, "perplexity": 2.0},
}
HEAD = "import pathlib, sys; folder = pathlib.Path(sys.argv[1])\n"
SAVE = (
    "(folder / 'checkpoints').mkdir(exist_ok=True); (folder / 'checkpoints' / 'checkpoint_last.pt').touch()"
)


def grid_of(*cells: Cell) -> Grid:
    return Grid("", (Comparison("c", "", "", tuple(Row(cell.name, (cell,)) for cell in cells)),))


def test_done_cells_stay_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, f"{SAVE}; open(folder / 'runs', 'a').write('x')")
    cells = [Cell("raw", (flag,), 1) for flag in ("--a", "--b", "--c")]
    given = translation(tmp_path)
    for _ in range(2):
        assert run_grid(grid_of(*cells), given, jobs=2) == 0
    for cell in cells:
        assert (given.folder(cell) / "runs").read_text() == "x"
        assert not list((given.folder(cell) / "checkpoints").iterdir())
        assert json.loads((given.folder(cell) / "cell.json").read_text())["flags"] == list(cell.flags)
    assert run_grid(grid_of(cells[0]), translation(tmp_path / "other", keep_checkpoints=True), jobs=1) == 0
    assert list((tmp_path / "other").glob("cells/*/checkpoints/*.pt"))


def test_cells_done_by_another_command_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, f"{SAVE}; open(folder / 'runs', 'a').write('x')")
    cell, given = Cell("raw", (), 1), translation(tmp_path / "here")
    assert run_grid(grid_of(cell), given, jobs=1) == 0
    # Another place of everything, and another number of trainings side by side, is no other command.
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert run_grid(grid_of(cell), translation(tmp_path / "there"), jobs=64) == 0
    other = GridRun(tmp_path / "there", TranslationKind(options_of(tmp_path / "there", beam=9)))
    capsys.readouterr()
    assert run_grid(grid_of(cell), other, jobs=1) == 1
    shown = capsys.readouterr().out
    assert f"{cell.name} FAILED (stage measure was done with another command: 4 is now 9; " in shown
    assert (other.folder(cell) / "runs").read_text() == "x"
    # What was measured in another way is not reported under this command.
    assert not other.is_done(cell) and other.read(cell) is None
    # What is needed to measure it once more is made once more.
    other.stages(cell).redo("measure")
    assert run_grid(grid_of(cell), other, jobs=1) == 0 and other.is_done(cell)
    assert (other.folder(cell) / "runs").read_text() == "xx"


def test_failed_cell_leaves_the_others_alone_and_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = f"{SAVE}; assert not (folder / 'bad').exists(), 'on purpose'"
    scripted(monkeypatch, fails, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    good, bad = Cell("raw", ("--a",), 1), Cell("raw", ("--b",), 1)
    given = translation(tmp_path)
    given.folder(bad).mkdir(parents=True)
    (given.folder(bad) / "bad").touch()
    assert run_grid(grid_of(bad, good), given, jobs=1) == 1
    shown = capsys.readouterr().out
    assert f"{bad.name} FAILED (stage train failed (exit status 1); its log is {given.log(bad)}" in shown
    assert "on purpose" in given.log(bad).read_text() and "AssertionError: on purpose" in shown
    assert given.is_done(good) and not given.is_done(bad)
    (given.folder(bad) / "bad").unlink()
    assert run_grid(grid_of(bad, good), given, jobs=1) == 0 and given.is_done(bad)
    # It was trained in two parts, so nobody knows how long it takes.
    assert given.read(bad) == {**MEASURED, "seconds": None}
    assert given.read(good) == {**MEASURED, "seconds": 0}


def test_what_a_link_leads_to_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints take room, so some keep them elsewhere."""
    scripted(monkeypatch, SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    linked, plain = Cell("raw", ("--a",), 1), Cell("raw", ("--b",), 1)
    given, elsewhere = translation(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    given.folder(linked).mkdir(parents=True)
    (given.folder(linked) / "checkpoints").symlink_to(elsewhere)
    assert run_grid(grid_of(linked, plain), given, jobs=1) == 0
    assert (elsewhere / "checkpoint_last.pt").exists()
    assert not list((given.folder(plain) / "checkpoints").iterdir())


def test_what_was_trained_on_a_gpu_is_done_elsewhere_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    monkeypatch.setattr(
        TranslationKind,
        "train_command",
        lambda kind, cell, folder, threads, gpu: [
            *(sys.executable, "-c", HEAD + SAVE, str(folder)),
            "on a GPU" if gpu else "elsewhere",
        ],
    )
    given, cell = translation(tmp_path), Cell("raw", (), 1)
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        assert run_grid(grid_of(cell), given, jobs=1) == 0
    assert given.is_done(cell) and run_grid(grid_of(cell), given, jobs=1) == 0


@pytest.mark.parametrize(
    ("visible", "jobs", "seen"), [(None, 2, {"0", "1"}), ("5,3", 2, {"5", "3"}), ("7", 1, {"7"})]
)
def test_cells_side_by_side_share_out_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, jobs: int, seen: set[str]
) -> None:
    """All of them would take the first one. Each waits for the other, so that both run at once."""
    meet = (
        "import os, time; (folder / 'gpu').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "end = time.time() + 60\n"
        f"while len(list(folder.parent.glob('*/gpu'))) < {jobs}: assert time.time() < end\n"
    )
    scripted(monkeypatch, meet + SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(seen))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given, cells = translation(tmp_path), [Cell("raw", (flag,), 1) for flag in ("--a", "--b", "--c")]
    assert run_grid(grid_of(*cells), given, jobs=jobs) == 0
    assert {(given.folder(cell) / "gpu").read_text() for cell in cells} == seen


def test_what_began_on_a_gpu_does_not_go_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU there may be more workers, each with as many tokens."""
    fails = f"{SAVE}; assert not (folder / 'bad').exists()"
    scripted(monkeypatch, fails, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    given, cell = translation(tmp_path), Cell("raw", (), 1)
    given.folder(cell).mkdir(parents=True)
    (given.folder(cell) / "bad").touch()
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        assert run_grid(grid_of(cell), given, jobs=1) == 1
    (given.folder(cell) / "bad").unlink()
    assert run_grid(grid_of(cell), given, jobs=1) == 1
    where = given.folder(cell)
    assert f"FAILED ({where}: began on a GPU; go on there, or remove {where} and" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        assert run_grid(grid_of(cell), given, jobs=1) == 0


def test_a_report_is_not_replaced_by_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    given, grid = translation(tmp_path), grid_of(Cell("raw", (), 1))
    monkeypatch.setattr("vqnat_plugin.recipes.grid_report.render_report", lambda folder: "shown")
    figures = {"comparisons": {"c": {"rows": {"row": {"cells": [MEASURED]}}}}}
    monkeypatch.setattr(TranslationKind, "report", staticmethod(lambda *_: figures))
    assert run_grid(grid, given, jobs=1) == 0 and write_report(grid, given, "title", [], {}) == "shown"
    before = (tmp_path / "report.json").read_text()
    other = GridRun(tmp_path, TranslationKind(options_of(tmp_path, beam=9)))
    with pytest.raises(DataError, match="stays as it is: no training here was done with these options"):
        write_report(grid, other, "title", [], {})
    more = Cell("raw", ("--new",), 1)
    assert run_grid(grid_of(more), other, jobs=1) == 0
    with pytest.raises(DataError, match="stays as it is: some trainings here were done with other options"):
        write_report(grid_of(*grid.cells(), more), other, "title", [], {})
    assert (tmp_path / "report.json").read_text() == before


def test_checkpoints_that_were_kept_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    given, cell = translation(tmp_path), Cell("raw", (), 1)
    assert run_grid(grid_of(cell), GridRun(given.out, given.kind, keep_checkpoints=True), jobs=1) == 0
    assert run_grid(grid_of(cell), given, jobs=1) == 0
    assert (given.folder(cell) / "checkpoints" / "checkpoint_last.pt").exists()


def test_damaged_record_of_a_cell_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, SAVE, f"(folder / 'diagnosis.json').write_text({json.dumps(MEASURED)!r})")
    first, second, damaged = Cell("raw", ("--a",), 1), Cell("raw", ("--b",), 1), Cell("raw", ("--c",), 1)
    given = translation(tmp_path)
    assert run_grid(grid_of(damaged, first), given, jobs=1) == 0
    (given.folder(damaged) / "cell.json").write_text('{"threads": 0}')
    capsys.readouterr()
    assert run_grid(grid_of(damaged, first, second), given, jobs=1) == 1
    assert f"{damaged.name} FAILED ({given.folder(damaged)}/cell.json: is no rec" in capsys.readouterr().out
    assert given.is_done(first) and given.is_done(second)


def blocked(monkeypatch: pytest.MonkeyPatch, given: GridRun, cell: Cell) -> Path:
    """Lets a cell wait for its end; gives the file that can be read once it does."""
    scripted(monkeypatch, "open(folder / 'ready', 'w').write('x'); import signal; signal.pause()")
    ready = given.folder(cell) / "ready"
    ready.parent.mkdir(parents=True)
    os.mkfifo(ready)
    return ready


def test_stopping_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, cell = translation(tmp_path), Cell("raw", (), 1)
    runner, ready = Runner(given), blocked(monkeypatch, given, cell)
    failures: list[Exception] = []

    def work() -> None:
        try:
            runner.run(cell)
        except DataError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.read_text() == "x"
    runner.stop()
    thread.join(timeout=60)
    assert not thread.is_alive() and "ended by SIGTERM" in str(failures[0]) and not given.is_done(cell)


def test_sigterm_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, cell = translation(tmp_path), Cell("raw", (), 1)
    ready = blocked(monkeypatch, given, cell)

    def end() -> None:
        ready.read_text()
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=end)
    thread.start()
    # Would wait for its end forever if it were not ended.
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        run_grid(grid_of(cell), given, jobs=1)
    thread.join()
    assert ended.value.code == TERMINATED and not given.is_done(cell)
    assert signal.getsignal(signal.SIGTERM) == before


# The report.


def test_table_leaves_out_what_nobody_knows() -> None:
    cell = {
        "systems": {"predicted": {"bleu": 20.0}},
        "predictor": {"accuracy": 0.5, "perplexity": 4.0},
        "codes": {"usage": 0.25, "perplexity": 10.0},
        "posterior_entropy": None,
        "seconds": 120,
    }
    lines = comparison_table({"a": [cell, cell], "b": []}).splitlines()
    assert "entropy" not in lines[0] and "candidates" not in lines[0]
    assert [part.strip() for part in lines[2].split("|")][1:4] == ["a", "20.0 ± 0.0", "0.500 ± 0.000"]
    assert lines[3].split("|")[-2].strip() == "0"


@pytest.mark.parametrize(
    ("grid_name", "results"),
    [
        ("ablations/grid.yaml", "ablations/results"),
        ("ablations/kinds.yaml", "ablations/results/kinds"),
        ("cifar10/grid.yaml", "cifar10/results/compare"),
        ("bottleneck/images.yaml", "bottleneck/results/images"),
    ],
)
def test_committed_reports_are_those_of_the_grids(grid_name: str, results: str, tmp_path: Path) -> None:
    folder = ROOT / "examples" / results
    content = json.loads((folder / "report.json").read_text())
    grid = read_grid(ROOT / "examples" / grid_name)
    if grid.measure == "images":
        reported = {name: (flags, "images", 3) for name, flags in content["flags"].items()}
        assert [len(cells) for cells in content["results"].values()] == [3] * len(reported)
    else:
        reported = {
            f"{comparison['title']}, {name}": (
                without_detokenising(row["flags"]),
                row["data"],
                len(row["cells"]),
            )
            for comparison in content["comparisons"].values()
            for name, row in comparison["rows"].items()
        }
    assert reported == {
        f"{comparison.title}, {row.name}": (list(row.cells[0].flags), row.cells[0].data, len(row.cells))
        for comparison in grid.comparisons
        for row in comparison.rows
    }
    for file in filter(Path.is_file, folder.iterdir()):
        shutil.copy(file, tmp_path)
    render_report(tmp_path)
    assert (tmp_path / "report.md").read_text() == (folder / "report.md").read_text()


@pytest.mark.slow
def test_end_to_end(
    tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    grid, out = grid_file(tmp_path, text), tmp_path / "out"
    reference = tiny_corpus.parent / "text" / "test.de"
    command = ["ablate", str(grid), "--data", str(tiny_corpus), "--distilled", str(tiny_corpus)]
    command += ["--teacher", str(tiny_teacher), "--out", str(out), "--ref", str(reference)]
    command += ["--tokenizer", "space", "--jobs", "2"]
    outputs = []
    for flags in ([], ["--report-only"]):
        status = main([*command, *flags])
        outputs.append(capsys.readouterr().out)
        logs = "".join(log.read_text()[-1500:] for log in out.glob("cells/*/logs/*.log"))
        assert status == 0, logs
    assert "2 trainings, 0 done before" in outputs[0] and "ablate: " not in outputs[1]
    assert outputs[0].split("Tiny.")[1] == outputs[1].split("Tiny.")[1]
    report = (out / "report.md").read_text()
    assert report.startswith("# Ablations\n") and "Here: too small to tell" in report
    assert f"vqnat ablate {grid} --data DATA --distilled DATA --teacher {tiny_teacher}" in report
    assert "--tokenizer space --out OUT --jobs 2" in report
    assert "the teacher, greedy: " in report and "- sacreBLEU: `nrefs:1|" in report
    assert "The paper: soft is better." in report and "| hard" in report and "| soft" in report
    content = json.loads((out / "report.json").read_text())
    assert str(tmp_path) not in json.dumps(content["comparisons"])
    rows = content["comparisons"]["assignment"]["rows"]
    assert rows["soft"]["cells"][0]["posterior_entropy"] is not None
    assert rows["hard"]["cells"][0]["systems"]["predicted"]["bleu"] >= 0
    for name in ("assignment.png", "assignment_curves.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    # The report alone suffices to make it again.
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(out / "report.json", alone)
    shutil.copy(out / "assignment_curves.png", alone)
    assert render_report(alone) in outputs[0]
    assert (alone / "report.md").read_text() == report
    assert (alone / "assignment.png").read_bytes() == (out / "assignment.png").read_bytes()
    # Curves that are not asked for any more are none of this report.
    grid_file(tmp_path, text.replace("curves: true", "curves: false"))
    assert main([*command, "--report-only"]) == 0
    assert not (out / "assignment_curves.png").exists()
    assert "curves" not in (out / "report.md").read_text()


def test_options_that_a_kind_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = grid_file(tmp_path)
    images = tmp_path / "images.yaml"
    images.write_text(GRID.replace("caption:", "measure: images\ncaption:").replace("data: raw", ""))

    def complaint(grid: Path, *more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["ablate", str(grid), "--data", str(tmp_path), "--out", str(tmp_path / "out"), *more])
        assert ended.value.code == 2 and not (tmp_path / "out").exists()
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        return shown

    assert f"--distilled is needed for {grid}, which measures translation" in complaint(grid)
    given = ["--distilled", str(tmp_path), "--teacher", str(grid)]
    assert f"--ref is needed for {grid}" in complaint(grid, *given)
    assert f"--teacher means nothing for {images}, which measures images" in complaint(images, *given[2:])
    for name, value in (("--beam", "2"), ("--tokenizer", "space"), ("--tokenize", "char")):
        assert f"{name} means nothing for {images}, which measures" in complaint(images, name, value)
    assert "--jobs 0: needs at least 1" in complaint(images, "--jobs", "0")


def test_failures_show_in_the_status_and_leave_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vqnat_plugin.recipes.cells.run_grid", lambda grid, grid_run, jobs: jobs)
    text = "caption: c\nseeds: [1]\ntrain: ''\ncomparisons: {a: {title: A, rows: {r: --x}}}\n"
    given = ["--data", str(tmp_path), "--title", "Of <none>", "--out", str(tmp_path)]
    images = ["ablate", str(grid_file(tmp_path, f"measure: images\n{text}")), *given]
    assert main(images) == 1 and main([*images, "--report-only"]) == 0
    grid = grid_file(tmp_path, text)
    special = ["--distilled", str(tmp_path), "--teacher", str(grid), "--ref", str(grid)]
    assert main(["ablate", str(grid), *given, *special]) == 1
    assert "report.md, report.json and plots written" in capsys.readouterr().out
    # Before anything is trained.
    for measure, more in (("", special), ("measure: images\n", [])):
        command = ["ablate", str(grid_file(tmp_path, f"{measure}{text}")), *given, *more]
        with pytest.raises(SystemExit):
            main([*command, "--gen-subset", "dev"])
        assert f"--gen-subset dev: {tmp_path} has no such split" in capsys.readouterr().err
    report = (tmp_path / "report.md").read_text()
    assert report.startswith("# Of &lt;none>\n") and "The paper" not in report and "![" not in report


@pytest.mark.slow
def test_end_to_end_with_images(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = f"{AUTOENCODER} {IMAGE_TRAINING}".replace("--seed 1 --cpu", "").replace("--log-format none", "")
    shared = shared.replace("--user-dir vqnat_plugin", "")
    text = f"""
measure: images
title: Tiny images
caption: 8 updates
notes: [of squares]
seeds: [1]
train: --workers 1 {shared} --max-update 8 --log-interval 2 --disable-validation
comparisons:
  small:
    title: 4 values
    note: too small to tell
    curves: true
    rows:
      hard EM: --bottleneck hard
"""
    out = tmp_path / "out"
    command = ["ablate", str(grid_file(tmp_path, text)), "--data", str(image_folder), "--out", str(out)]
    status = main(command)
    shown = capsys.readouterr().out
    assert status == 0, "".join(log.read_text()[-1500:] for log in out.glob("cells/*/logs/*.log"))
    assert "1 trainings, 0 done before" in shown and "| 4 values, hard EM" in shown
    report = (out / "report.md").read_text()
    assert report.startswith("# Tiny images\n") and "- 8 updates\n- of squares\n" in report
    assert (
        PARTIAL_TIME not in report
        and "- 4 values, here: too small to tell" in report
        and "](training.png)" in report
    )
    assert f"vqnat ablate {tmp_path / 'grid.yaml'} --data DATA --out OUT" in report
    content = json.loads((out / "report.json").read_text())
    assert [one["images"] for one in content["results"]["4 values, hard EM"]] == [TEST]
    assert content["flags"]["4 values, hard EM"][-2:] == ["--bottleneck", "hard"]
    assert content["stages"]["4 values, hard EM"] > 0
    assert str(out) not in json.dumps(content["results"])
    # The data are decoded once.
    assert (out / "images").is_dir() and not list(out.glob("cells/*/images"))
    assert render_report(out) in shown and (out / "report.md").read_text() == report
    grid_file(tmp_path, text.replace("curves: true", "curves: false"))
    assert main([*command, "--report-only"]) == 0
    assert "training.png" not in (out / "report.md").read_text()
    # Nobody knows how long a training takes that was interrupted.
    [cell] = out.glob("cells/*/cell.json")
    cell.write_text(json.dumps({**json.loads(cell.read_text()), "interrupted": True}))
    assert main([*command, "--report-only"]) == 0
    content = json.loads((out / "report.json").read_text())
    assert content["stages"] == {} and list(content["results"]) == ["4 values, hard EM"]
    assert content["notes"][-1] == PARTIAL_TIME
