"""Reports of grids: what stands in `report.json` is text in `report.md`, and leads nowhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.errors import DataError
from vqnat_plugin.recipes.grid_report import render_report

RESULTS = Path(__file__).resolve().parents[2] / "examples" / "ablations" / "results"
HOSTILE = "# <script>alert(1)</script> ![a](https://b/c) | `d`\n\n<img src=x>"


def report(folder: Path, **changes: Any) -> Path:
    """A folder with the committed report of the ablations, its first comparison alone, and changes."""
    content = json.loads((RESULTS / "report.json").read_text())
    [(name, first), *_] = content["comparisons"].items()
    content["comparisons"] = {name: first}
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({**content, **changes}))
    return folder


def test_texts_are_no_markup(tmp_path: Path) -> None:
    folder = report(tmp_path / "out", title=HOSTILE, caption=HOSTILE, notes=[HOSTILE], commands=[HOSTILE])
    content = json.loads((folder / "report.json").read_text())
    [comparison] = content["comparisons"].values()
    comparison |= {"title": HOSTILE, "paper": HOSTILE, "note": HOSTILE}
    [row, *_] = comparison["rows"].values()
    comparison["rows"] = {HOSTILE: row}
    for cell in comparison["rows"][HOSTILE]["cells"]:
        cell["systems"]["teacher_greedy"]["signature"] = HOSTILE
    (folder / "report.json").write_text(json.dumps(content))
    render_report(folder)
    text, _, commands = (folder / "report.md").read_text().partition("```sh")
    assert commands.count("<script>") == 1
    # In code it stays as it is, and one pair of backticks more around it.
    plain = text.replace("`` # <script>alert(1)</script> ![a](https://b/c) | `d` <img src=x> ``", "")
    assert len(plain) < len(text)
    for markup in ("<script", "<img", "![a]", " | `d`", "\n# <", "\n# &"):
        assert markup not in plain.replace("\n# \\# &lt;script", ""), markup


def test_bars_of_a_report_before_are_not_shown(tmp_path: Path) -> None:
    folder = report(tmp_path / "out")
    content = json.loads((folder / "report.json").read_text())
    [(name, comparison)] = content["comparisons"].items()
    (folder / f"{name}.png").touch()
    for row in comparison["rows"].values():
        row["cells"] = []
    (folder / "report.json").write_text(json.dumps(content))
    render_report(folder)
    assert not (folder / f"{name}.png").exists() and "![" not in (folder / "report.md").read_text()


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "a.b", ""])
def test_names_of_plots_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = report(tmp_path / "out")
    content = json.loads((folder / "report.json").read_text())
    [comparison] = content["comparisons"].values()
    content["comparisons"] = {name: comparison}
    (folder / "report.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"report\.json: is no report of a grid"):
        render_report(folder)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["report.json"]


@pytest.mark.parametrize("changes", [{"measure": "x"}, {"measure": []}, {"comparisons": ["a"]}])
def test_other_files_are_no_reports(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"report\.json: is no report of a grid"):
        render_report(report(tmp_path / "out", **changes))
