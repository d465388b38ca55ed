"""examples/recipe.sh: options, stages that resume; and what all recipes have in common."""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dry_run import EXAMPLES, RECIPES, dry_run, value
from fairseq import options as fairseq_options

import vqnat_plugin.compat  # noqa: F401
from vqnat_plugin.commands import main as vqnat
from vqnat_plugin.evaluation.settings import TimingOptions
from vqnat_plugin.recipes.stages import Stages

ROOT = EXAMPLES.parent
HEAD = """#!/usr/bin/env bash
# usage: a recipe
#
# Not --done, though it is spoken of here.
#
#   --data DIR   what it reads
#   --out DIR    where it writes
#   --title TEXT of a report
#   --source-lang LANG  that is translated
#   --download   fetch something
#   --dry-run    print

OUT={out} TITLE=none SOURCE_LANG=en
source {recipe} "$@"
"""


def recipe(tmp_path: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a recipe made of recipe.sh and `script`; its OUT is tmp_path/out."""
    file = tmp_path / "recipe"
    file.write_text(HEAD.format(out=tmp_path / "out", recipe=EXAMPLES / "recipe.sh") + script)
    return subprocess.run(
        ["bash", file, *options], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )


def test_finished_stage_is_skipped(tmp_path: Path) -> None:
    script = """stage count sh -c 'echo x >> "$0/runs"; echo said' "$OUT" """
    first, second = recipe(tmp_path, script), recipe(tmp_path, script)
    assert first.returncode == second.returncode == 0
    assert "said" in first.stdout and "count: done before" in second.stdout
    assert (tmp_path / "out" / "runs").read_text() == "x\n"
    assert (tmp_path / "out" / "logs" / "count.log").read_text() == "said\n"
    assert list(Stages(tmp_path / "out").seconds()) == ["count"]


def test_failed_stage_stops_the_recipe_and_is_run_again(tmp_path: Path) -> None:
    script = 'stage one test -e "$OUT/ready"; stage two touch "$OUT/two"; touch "$OUT/after"'
    failed = recipe(tmp_path, script)
    assert failed.returncode == 2
    assert "stage one failed" in failed.stderr and str(tmp_path / "out/logs/one.log") in failed.stderr
    assert not (tmp_path / "out" / "two").exists() and not (tmp_path / "out" / "after").exists()
    (tmp_path / "out" / "ready").touch()
    assert recipe(tmp_path, script).returncode == 0
    assert (tmp_path / "out" / "two").exists()


def test_failure_of_a_part_of_the_recipe_is_not_passed_over(tmp_path: Path) -> None:
    for part in ("given DATA stage work false", "always false", "given DATA always test -e no", "false"):
        script = f'{part}\ntouch "$OUT.after"'
        assert recipe(tmp_path, script, "--data", "x").returncode, part
        assert not (tmp_path / "out.after").exists(), part


def test_killed_stage_is_run_again(tmp_path: Path) -> None:
    killed = recipe(tmp_path, "stage victim sh -c 'kill -9 $$'")
    assert killed.returncode == 2 and "SIGKILL" in killed.stderr
    again = recipe(tmp_path, "stage victim echo here")
    assert again.returncode == 0 and "here" in again.stdout


def test_commands_on_record(tmp_path: Path) -> None:
    script = """
        stage both echo "a b" "$DATA/x" "$OUT/y"
        stage plain true --flag
        always echo shown
        given DOWNLOAD stage not false
    """
    for _ in range(2):
        done = recipe(tmp_path, script, "--data", "some/data")
        assert done.returncode == 0 and "shown" in done.stdout
    assert Stages(tmp_path / "out").commands() == ["echo 'a b' DATA/x OUT/y", "true --flag"]


def test_options(tmp_path: Path) -> None:
    show = 'echo "$DATA $OUT $DOWNLOAD $TITLE $SOURCE_LANG"'
    given = recipe(tmp_path, show, "--data", "d", "--out", "o", "--download")
    assert given.stdout == f"{tmp_path}/d {tmp_path}/o 1 none en\n"
    for bogus in (
        "--bogus",
        "--done",
        "--check",
        "--tit",
        "--titl[e]",
        "--title ",
        "-x",
        "x",
        "",
        "--",
        "--.*",
    ):
        wrong = recipe(tmp_path, show, bogus)
        assert wrong.returncode == 2 and f"unknown option '{bogus}'" in wrong.stderr
        assert "--help" in wrong.stderr and wrong.stderr.count("\n") == 1
    for name in ("--help", "-h"):
        shown = recipe(tmp_path, "echo not reached", "--out", "o", name)
        assert shown.returncode == 0 and shown.stdout.startswith("usage: a recipe\n\nNot --done")
        assert "reached" not in shown.stdout and shown.stdout.endswith("  --dry-run    print\n")
    missing = recipe(tmp_path, show, "--data")
    assert missing.returncode == 2 and "--data: needs a value" in missing.stderr


def test_options_of_one_recipe(tmp_path: Path) -> None:
    given = recipe(tmp_path, 'echo "$TITLE $OUT $SOURCE_LANG"', "--title", "a b", "--source-lang", "--de")
    assert given.stdout == f"a b {tmp_path}/out --de\n"
    for last in (["--title"], ["--title", ""]):
        missing = recipe(tmp_path, "true", *last)
        assert missing.returncode == 2 and "--title: needs a value" in missing.stderr
    wrong = recipe(tmp_path, "true", "--titel", "x")
    assert wrong.returncode == 2 and "unknown option '--titel'" in wrong.stderr


def test_options_do_not_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "DOWNLOAD", "CHECK", "DRY_RUN"):
        monkeypatch.setenv(name, "set")
    assert recipe(tmp_path, 'echo "<$DATA$DOWNLOAD$CHECK$DRY_RUN>"').stdout == "<>\n"


@pytest.mark.parametrize("name", ["a b", "it's", "a|b", "[ab]*", "$(touch x)", "line\nfeed\n", "back\\slash"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    out, data = tmp_path / name / "out\n", tmp_path / name / "data"
    data.mkdir(parents=True)
    (data / "words").write_text("some\n")
    script = 'stage one cp "$DATA/words" "$OUT/words"; always cat "$OUT"/wor*'
    done = recipe(tmp_path, script, "--data", str(data), "--out", str(out))
    assert done.returncode == 0 and done.stdout == "== one\nsome\n", done.stderr
    assert Stages(out).commands() == ["cp DATA/words OUT/words"]
    assert {path.name for path in tmp_path.iterdir()} == {name, "recipe"}
    shown = recipe(tmp_path, script, "--data", str(data), "--out", str(tmp_path / "new"), "--dry-run")
    again = subprocess.run(
        [
            "bash",
            "-c",
            f'echo() {{ :; }}; cp() {{ [ "$1" = "$0/words" ] && printf ok; }}\n{shown.stdout}',
            data,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.stdout.startswith("ok"), "what is printed is a command"
    assert not (tmp_path / "new").exists()


def test_the_projects_python_is_needed(tmp_path: Path) -> None:
    script = "PATH=/usr/bin:/bin; stage one true"
    done = recipe(tmp_path, script)
    assert done.returncode == 1 and done.stderr.endswith("recipe: run scripts/setup.sh first\n")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "--data: name a folder"),
        (["--data", "x", "--updates", "many"], "--updates many: needs a number"),
        (["--data", "x", "--updates", "499"], "--updates 499: needs a number of at least 500"),
        (["--data", "x", "--updates", "0800"], "--updates 0800: needs a number of at least 500"),
        (["--data", "x", "--updates", "0"], "--updates 0: needs a number of at least 500"),
        (["--data", "x", "--back-translations", "-1"], "--back-translations -1: needs a number of at lea"),
    ],
)
def test_options_of_own_corpus(options: list[str], complaint: str) -> None:
    command = [EXAMPLES / "own_corpus/run.sh", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and complaint in done.stderr and done.stderr.count("\n") == 1


def test_own_corpus_does_as_it_is_told() -> None:
    words = ["--data", "/some/text", "--source-lang", "fi", "--target-lang", "sv", "--updates", "900"]
    _, teacher, _, student, diagnosis, convert, export, model, compare = dry_run(
        EXAMPLES / "own_corpus/run.sh", *words
    )
    assert value(teacher, "--max-update") == value(teacher, "--total-num-update") == "900"
    assert value(student, "--max-update") == value(student, "--total-num-update") == "1500"
    assert value(student, "--code-revival-until") == "1125"
    assert "--eval-bleu" in student and value(student, "--target-lang") == "sv"
    assert diagnosis[:2] == ["vqnat", "diagnose"] and value(convert, "--source-lang") == "fi"
    assert "--with-teacher" in export and "--with-teacher" not in model
    assert value(compare, "--title") == "text, fi to sv, test"
    assert value(compare, "--ref").endswith("/reference/test.sv")
    *_, compare = dry_run(EXAMPLES / "own_corpus/run.sh", *words, "--title", "Mine")
    assert value(compare, "--title") == "Mine, fi to sv, test"


def test_own_corpus_translates_back_as_often_as_it_is_told() -> None:
    words = ["--data", "/some/text", "--source-lang", "fi", "--target-lang", "sv", "--out", "/out"]
    recipe = EXAMPLES / "own_corpus/run.sh"
    prepare, teacher, distil, reverse, *rounds, student, _, _, _, _, compare = dry_run(
        recipe, *words, "--back-translations", "2"
    )
    assert (value(reverse, "--source-lang"), value(reverse, "--target-lang")) == ("sv", "fi")
    assert value(reverse, "--max-update") == value(reverse, "--total-num-update") == "1200"
    data, seeds = "/out/data/bin", []
    for number, (back, forth) in enumerate(zip(rounds[::2], rounds[1::2], strict=True), 1):
        assert value(back, "--teacher") == f"{value(reverse, '--save-dir')}/checkpoint_best.pt"
        assert (value(back, "--source-lang"), value(back, "--data")) == ("sv", data)
        assert "--sampling" in back and value(forth, "--data") == value(back, "--out")
        assert value(forth, "--out") == f"/out/distilled_{number}"
        assert forth[forth.index("--source-lang") :] == distil[distil.index("--source-lang") :]
        seeds.append(value(back, "--seed"))
    assert seeds == ["1", "2"] and student[2] == "/out/distilled:/out/distilled_1:/out/distilled_2"
    assert "back-translations" in value(compare, "--note")
    without = dry_run(recipe, *words)
    assert without[:3] == [prepare, teacher, distil] and len(without) == 9 and "--note" not in without[-1]
    assert without[3] == [word.replace(student[2], "/out/distilled") for word in student]


def test_every_recipe_has_help() -> None:
    assert {path.parent.name for path in RECIPES} >= {"quickstart", "multi30k"}
    for path in RECIPES:
        shown = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=True)
        assert shown.stdout.startswith(f"usage: examples/{path.parent.name}/{path.name} ")
        assert all(f"\n  {option}" in shown.stdout for option in ("--data", "--out", "--dry-run")), path


@pytest.mark.parametrize(
    "path",
    [path for path in RECIPES if "[--data DIR]" not in path.read_text().splitlines()[1]],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_recipes_that_need_data_say_so(path: Path, tmp_path: Path) -> None:
    """Those for which the help has no way around it."""
    command = [path, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--data" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    command = [EXAMPLES / "multi30k/run.sh", "--data", tmp_path / "nowhere", "--out", tmp_path / "out"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={"PATH": path, "HOME": "/tmp"}
    )
    assert done.returncode == 2
    assert "no such file or folder" in done.stdout and "nowhere" in done.stdout
    assert done.stderr.count("\n") == 1 and "stage prepare failed" in done.stderr


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_command_of_a_dry_run_can_be_parsed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The texts that fairseq-preprocess reads are made by the commands before it.
    monkeypatch.setattr("vqnat_plugin.fairseq_options.check_texts", lambda args: None)
    # Without --data and with everything else that a recipe has, so that it shows all that it can run.
    flags = [flag for flag in ("--download", "--check") if f"#   {flag} " in path.read_text()]
    commands = dry_run(path, *flags, "--out", str(tmp_path / "an out"))
    assert commands and not (tmp_path / "an out").exists()
    for command in commands:
        parse(command)


def parse(command: list[str]) -> None:
    """Raise or exit unless the program of a command takes its options."""
    program, *words = command
    if program == "vqnat":
        name, rest = vqnat.find(words)
        found, others = vqnat.parser_of(name).parse_known_args(rest)
        if name == "train":
            fairseq_options.parse_args_and_arch(fairseq_options.get_training_parser(), others)
            return
        assert not others, command
        if issubclass(vqnat.load(name).Options, TimingOptions) and not getattr(found, "convert", None):
            declare_systems(name, found)
    elif program == "fairseq-preprocess":
        fairseq_options.get_preprocessing_parser().parse_args(words)
    elif program not in ("wget", "gunzip") and words[:1] != ["-c"]:
        assert (ROOT / (words[0] if program == "python" else program)).is_file(), command


def declare_systems(name: str, found: argparse.Namespace) -> None:
    """Raise `UsageError` unless the systems of a comparison can be what they are said to be."""
    values: dict[str, Any] = {key: value for key, value in vars(found).items() if value is not None}
    values["system"] = tuple(map(tuple, values["system"]))
    assert len(vqnat.load(name).Options(**values).systems()) == len(values["system"]) >= 4


def test_recipes_are_lists_of_commands() -> None:
    for path in EXAMPLES.rglob("*.sh"):
        subprocess.run(["bash", "-n", path], check=True, timeout=60)
        text = path.read_text()
        for name, body in re.findall(r"^(\w+)\(\) \{\n(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL):
            assert body.count("\n") <= 10, (path, name)
        if path.parent != EXAMPLES:
            assert not re.search(
                r"^\s*(\w+\(\)|if|for|while|case|function|eval) ?", text, flags=re.MULTILINE
            ), path
