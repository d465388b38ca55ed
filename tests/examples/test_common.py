"""examples/common.sh: options, stages that resume, the list of commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bash(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a recipe made of common.sh and `script`; its OUT is tmp_path/out, as `start_recipe` makes it."""
    head = f"""
        set -euo pipefail
        source {ROOT}/examples/common.sh
        DATA="" OUT={tmp_path}/out DOWNLOAD="" HELP="usage: a recipe"
        mkdir -p "$OUT/logs" "$OUT/done"
    """
    return subprocess.run(
        ["bash", "-c", head + script, "recipe"], capture_output=True, text=True, timeout=60, check=False
    )


def test_finished_stage_is_skipped(tmp_path: Path) -> None:
    script = 'stage count bash -c "echo x >> $OUT/runs; echo said"'
    first, second = bash(script, tmp_path), bash(script, tmp_path)
    assert first.returncode == second.returncode == 0
    assert "said" in first.stdout and "count: done before" in second.stdout
    assert (tmp_path / "out" / "runs").read_text() == "x\n"
    assert (tmp_path / "out" / "logs" / "count.log").read_text() == "said\n"
    name, seconds = (tmp_path / "out" / "stages.tsv").read_text().split()
    assert name == "count" and seconds.isdigit()


def test_failed_stage_stops_the_recipe_and_is_run_again(tmp_path: Path) -> None:
    script = 'stage one test -e "$OUT/ready"; stage two touch "$OUT/two"'
    failed = bash(script, tmp_path)
    assert failed.returncode == 1
    assert "stage one failed" in failed.stderr and str(tmp_path / "out/logs/one.log") in failed.stderr
    assert not (tmp_path / "out" / "two").exists()
    (tmp_path / "out" / "ready").touch()
    assert bash(script, tmp_path).returncode == 0
    assert (tmp_path / "out" / "two").exists()


def test_failure_inside_a_function_is_not_passed_over(tmp_path: Path) -> None:
    script = 'work() { false; touch "$OUT/after"; }; stage work work'
    assert bash(script, tmp_path).returncode == 1
    assert not (tmp_path / "out" / "after").exists()


def test_killed_stage_is_run_again(tmp_path: Path) -> None:
    killed = bash('stage victim bash -c "kill -9 \\$\\$"', tmp_path)
    assert killed.returncode == 1
    again = bash('stage victim bash -c "echo here"', tmp_path)
    assert again.returncode == 0 and "here" in again.stdout


def test_minutes_of_killed_attempts_count(tmp_path: Path) -> None:
    logs = tmp_path / "out" / "logs"
    for attempt in 1, 2:
        bash('stage victim bash -c "echo begun; kill -9 \\$\\$"', tmp_path)
        # As if it had begun 100 seconds before its last line.
        last = (logs / "victim.log").stat().st_mtime
        os.utime(logs / "victim.spent", (last - 100, last - 100))
        assert int((logs / "victim.spent").read_text()) == 100 * (attempt - 1)
    (logs / "other.spent").write_text("3")
    assert bash("stage other true", tmp_path).returncode == 0, "a log that was deleted is no obstacle"
    assert bash("stage victim true", tmp_path).returncode == 0
    assert 200 <= int((tmp_path / "out" / "stages.tsv").read_text().split()[-1]) < 260
    assert not (logs / "victim.spent").exists()


def test_commands_on_record(tmp_path: Path) -> None:
    script = """
        DATA=/some/data
        both() { run echo "a b" "$DATA/x"; run echo "$OUT/y"; }
        stage both both
        stage plain true --flag
        stage plain true --flag
    """
    assert bash(script + script, tmp_path).returncode == 0
    lines = (tmp_path / "out" / "commands.txt").read_text().splitlines()
    assert lines == ["echo a\\ b DATA/x", "echo OUT/y", "true --flag"]


def test_options(tmp_path: Path) -> None:
    given = bash('parse_options --data d --out o --download; echo "$DATA $OUT $DOWNLOAD"', tmp_path)
    assert given.stdout == "d o 1\n"
    wrong = bash("parse_options --bogus", tmp_path)
    assert wrong.returncode == 2 and "--bogus" in wrong.stderr and "--help" in wrong.stderr
    shown = bash("parse_options --help; echo not reached", tmp_path)
    assert shown.returncode == 0 and shown.stdout == "usage: a recipe\n"
    missing = bash("parse_options --data", tmp_path)
    assert missing.returncode != 0 and "--data" in missing.stderr


def test_options_of_one_recipe(tmp_path: Path) -> None:
    own = """
        recipe_option() { case $1 in --name) NAME=$2 ;; *) return 1 ;; esac; }
        NAME=none
    """
    given = bash(own + 'parse_options --name "a b" --out o; echo "$NAME $OUT"', tmp_path)
    assert given.stdout == "a b o\n"
    for last in ("--name", '--name ""'):
        missing = bash(own + f"parse_options {last}", tmp_path)
        assert missing.returncode == 2 and "--name: needs a value" in missing.stderr
    wrong = bash(own + "parse_options --nam x", tmp_path)
    assert wrong.returncode == 2 and "unknown option '--nam'" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "--data: name a folder"),
        (["--data", "x", "--updates", "many"], "--updates many: needs a number"),
        (["--data", "x", "--updates", "499"], "--updates 499: needs a number of at least 500"),
    ],
)
def test_options_of_own_corpus(options: list[str], complaint: str) -> None:
    command = [ROOT / "examples/own_corpus/run.sh", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and complaint in done.stderr


def test_every_recipe_has_help() -> None:
    recipes = sorted(ROOT.glob("examples/*/run.sh"))
    assert {path.parent.name for path in recipes} >= {"quickstart", "multi30k"}
    for path in recipes:
        shown = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=True)
        assert "--data" in shown.stdout and "--out" in shown.stdout, path


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    command = [ROOT / "examples/multi30k/run.sh", "--data", tmp_path / "nowhere", "--out", tmp_path / "out"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={"PATH": path, "HOME": "/tmp"}
    )
    assert done.returncode == 1
    assert "no such folder" in done.stdout and "nowhere" in done.stdout
