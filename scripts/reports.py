"""The committed reports, as the README's figures need them."""

import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vqnat_plugin import __version__
from vqnat_plugin.evaluation.steadiness import as_words, is_busy
from vqnat_plugin.reading import read_json

# The first is the one whose numbers stand at the top.
TRANSLATION = (
    "multi30k/results",
    "own_corpus/results",
    "own_corpus/results/debian",
    "quickstart/results",
)


@cache
def read_report(examples: Path, folder: str) -> tuple[dict[str, Any], str]:
    """A committed report, and a link to it from the README, which names an earlier version."""
    report = read_json(examples / folder / "report.json")
    version = report["versions"]["vqnat-plugin"]
    label = "report" if version == __version__ else f"report of version {version}"
    return report, f"[{label}](examples/{folder}/report.md)"


def cpu(report: Mapping[str, Any]) -> str:
    """The name of a processor, without what only fills it."""
    return str(report["machine"]["cpu"]).replace("(R)", "").removesuffix(" Processor")


def corpus(report: Mapping[str, Any]) -> str:
    """The name of a report's corpus, which its title begins with."""
    return str(report["title"]).partition(",")[0].partition(":")[0]


def enumerated(names: Sequence[str]) -> str:
    """Names as a part of a sentence."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def busy(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence for each of the named reports whose times were taken on a busy machine."""
    steady = {name: report["latency"].get("steadiness") for name, report in reports.items()}
    return "".join(
        f" The machine was not idle while {name} was timed: {as_words(found)}."
        for name, found in steady.items()
        if found and is_busy(found)
    )


def mean_bleu(row: Mapping[str, Any]) -> str:
    """Of the greedy latents of a row of a grid, mean over its seeds."""
    return f"{statistics.mean(cell['systems']['predicted']['bleu'] for cell in row['cells']):.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of figures; a last column without a name has links."""
    lines = [header, ["---", *("---:" if name else "---" for name in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
