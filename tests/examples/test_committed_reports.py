"""The committed reports are those of the commands beside them: what `run.sh --dry-run` prints."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from committed import without_detokenising
from dry_run import dry_run

from vqnat_plugin.commands.main import find, load, parser_of
from vqnat_plugin.evaluation.report import render_markdown
from vqnat_plugin.options import parse
from vqnat_plugin.reading import read_json

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {
    "multi30k": ["--data", "/DATA"],
    "own_corpus": ["--data", "/DATA", "--title", "Tatoeba"],
    "cifar10": ["--data", "/DATA"],
    "quickstart": [],
    "speed": [],
}
TRANSLATION = ("multi30k", "own_corpus", "quickstart")


# Those in a folder of their own: the recipe with other seeds or text, on another processor, of another size.
OTHERS = {
    ("multi30k", "seeds"): ["--data", "/DATA", "--seeds"],
    ("own_corpus", "debian"): ["--data", "/DATA", "--title", "Debian"],
    ("speed", "small"): ["--size", "small"],
    ("speed", "epyc"): [],
    ("speed", "epyc/small"): ["--size", "small"],
    ("speed", "verification"): [],
}
# Reports of scripts that are not called run.sh.
SCRIPTS = {("speed", "verification"): "verification.sh"}


def report(recipe: str, folder: str = "") -> dict[str, Any]:
    return json.loads((ROOT / "examples" / recipe / "results" / folder / "report.json").read_text())


@pytest.mark.parametrize(("recipe", "folder"), [*((recipe, "") for recipe in RECIPES), *OTHERS])
def test_commands_are_those_of_the_recipe(recipe: str, folder: str) -> None:
    options = OTHERS.get((recipe, folder), RECIPES[recipe])
    script = SCRIPTS.get((recipe, folder), "run.sh")
    shown = dry_run(ROOT / "examples" / recipe / script, *options, "--out", "/OUT")
    expected = [
        [word.replace("/OUT", "OUT").replace("/DATA", "DATA") for word in command] for command in shown
    ]
    # Set-up makes no result, and a report says nothing of those before it.
    others = [command for command in expected if command[:2] == ["vqnat", "compare"]][:-1]
    expected = [command for command in expected if command not in (["scripts/setup.sh"], *others)]
    found = [shlex.split(line) for line in report(recipe, folder)["commands"]]
    assert list(map(meaning, found)) == list(map(meaning, expected))


def meaning(command: list[str]) -> Any:
    """A command with all its options, whatever their order; that of a training as it is."""
    command = without_detokenising(command)
    if command[0] != "vqnat" or command[1] == "train":
        return command
    name, words = find(command[1:])
    parsed = vars(parser_of(name).parse_args(words))
    values = {key: value for key, value in parsed.items() if value is not None}
    if "ref" in values:
        # 'test.de*' stands for test.de and whatever test.de.1, test.de.2, ... there are.
        values["ref"] = [str(values["ref"][0]).removesuffix("*")]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if "system" in values:
        values["system"] = tuple(map(tuple, values["system"]))
    return name, load(name).Options(**values)


@pytest.mark.parametrize("recipe", TRANSLATION)
def test_systems_are_reported_as_they_are_declared(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = report(recipe)
    name, words = find(shlex.split(found["commands"][-1])[1:])
    # Files that the parser wants to see.
    monkeypatch.chdir(tmp_path)
    for word in words:
        if word.startswith("OUT/"):
            path = tmp_path / word
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=True) if path.name == "bin" else path.touch()
    options = parse(load(name).Options, parser_of(name), words)
    declared = {system.name: system.as_dict() for system in options.systems()}
    assert {name: system["options"] for name, system in found["systems"].items()} == declared
    assert found["title"] == options.title


@pytest.mark.parametrize(
    ("recipe", "folder", "plots"),
    [
        *((recipe, "", ["quality_speed.png", "training.png"]) for recipe in TRANSLATION),
        ("own_corpus", "debian", ["quality_speed.png", "training.png"]),
        ("multi30k", "seeds", ["quality_speed.png"]),
    ],
)
def test_markdown_is_made_of_the_json(recipe: str, folder: str, plots: list[str]) -> None:
    path = ROOT / "examples" / recipe / "results" / folder / "report.md"
    assert path.read_text() == render_markdown(report(recipe, folder), plots)


@pytest.mark.parametrize("folder", [".", "small", "epyc", "epyc/small", "verification"])
def test_markdown_of_timings_is_made_of_the_json(folder: str) -> None:
    path = ROOT / "examples" / "speed" / "results" / folder
    assert (path / "report.md").read_text() == render_markdown(read_json(path / "report.json"))
