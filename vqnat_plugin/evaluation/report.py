"""One report out of scores, latencies and what else a recipe left behind: `report.json` and `report.md`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import read_json, read_lines
from ..machine import describe_machine, describe_versions
from .tables import markdown_table

# What of a score file and of a latency file describes a system.
SCORE_KEYS = (
    "bleu",
    "signature",
    "brevity_penalty",
    "repetition_rate",
    "reference_repetition_rate",
    "sentences",
)


def read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """The score files (`scripts/score.py`) in a folder, by system.

    Raises:
        DataError: there is none, one lacks its keys, or two describe the same system.
    """
    scores: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        missing = [key for key in ("system", "bleu", "signature") if key not in content]
        if missing:
            raise DataError(f"{path}: not a score file, it lacks '{missing[0]}'")
        if content["system"] in scores:
            raise DataError(f"{path}: a second score of '{content['system']}'")
        scores[content["system"]] = content
    if not scores:
        raise DataError(f"--scores {folder}: no score files; scripts/score.py writes them")
    return scores


def read_stages(path: Path) -> dict[str, float]:
    """Seconds by stage, from lines of the form `name<TAB>seconds`; the last line of a stage counts.

    Raises:
        DataError: a line has another form.
    """
    stages = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, seconds = line.partition("\t")
        try:
            stages[name] = float(seconds)
        except ValueError:
            raise DataError(f"{path}: line {number} is not 'name<TAB>seconds': {line!r}") from None
    return stages


def build_report(
    title: str,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    latency: Mapping[str, Any] | None = None,
    latents: Mapping[str, float] | None = None,
    stages: Mapping[str, float] | None = None,
    commands: Sequence[str] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The content of `report.json`. Every part but the title may be missing.

    Args:
        title: of the report.
        scores: as `read_scores`.
        latency: as `benchmark` returns it.
        latents: flat figures about the latent variables.
        stages: seconds by stage.
        commands: that made the numbers; by default those that the score and latency files recorded.
        seed: of the training.

    Returns:
        `title`, `systems` (by name: `bleu`, `signature`, `latency_ms`, `speedup_vs_greedy`, ... as far as
        known), `latents`, `machine`, `versions`, `seed`, `commands`, `stages` and `latency` (how it was
        measured).
    """
    scores, latency = scores or {}, dict(latency or {})
    timed: dict[str, Any] = latency.pop("systems", {})
    # As benchmarked, then what was only scored.
    names = [*timed, *(name for name in scores if name not in timed)]
    systems = {
        name: {
            **{key: scores[name][key] for key in SCORE_KEYS if key in scores.get(name, {})},
            **timed.get(name, {}),
        }
        for name in names
    }
    if commands is None:
        recorded = [*(content.get("command") for content in scores.values()), latency.get("command")]
        commands = [command for command in recorded if command]
    made = provenance(commands, stages, seed)
    return {
        "title": title,
        "systems": systems,
        "latents": dict(latents or {}),
        **made,
        "machine": latency.pop("machine", None) or made["machine"],
        "latency": latency,
    }


def without_folder(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The report with `OUT` in the place of the folder's path: it may be read far from where it was made."""
    quoted = json.dumps(str(folder.resolve()))[1:-1]
    return json.loads(json.dumps(report).replace(quoted, "OUT"))


def results_table(report: Mapping[str, Any]) -> str:
    """The main table of a report: one row a system, with the columns of which at least one value is known."""
    systems: dict[str, dict[str, Any]] = report["systems"]
    sizes = list(dict.fromkeys(size for system in systems.values() for size in system.get("latency_ms", {})))
    columns: list[tuple[str, list[str]]] = [
        ("BLEU", [_format(system.get("bleu"), ".1f") for system in systems.values()]),
        ("brevity", [_format(system.get("brevity_penalty"), ".3f") for system in systems.values()]),
        ("repeats", [_format(system.get("repetition_rate"), ".1%") for system in systems.values()]),
    ]
    for size in sizes:
        label = size.replace("_", " ")
        latencies = [system.get("latency_ms", {}).get(size, {}) for system in systems.values()]
        speedups = [system.get("speedup", {}).get(size, {}) for system in systems.values()]
        columns += [
            (f"{label}, ms", [_format(values.get("median"), ".1f") for values in latencies]),
            ("p90", [_format(values.get("p90"), ".1f") for values in latencies]),
            ("vs greedy", [_format(values.get("vs_greedy"), ".2f", "x") for values in speedups]),
            ("vs beam", [_format(values.get("vs_beam"), ".2f", "x") for values in speedups]),
        ]
    known = [(title, values) for title, values in columns if any(values)]
    header = ["system", *(title for title, _ in known)]
    return markdown_table(header, zip(systems, *(values for _, values in known), strict=True))


def _format(value: float | None, spec: str, unit: str = "") -> str:
    return "" if value is None else format(value, spec) + unit


def results(report: Mapping[str, Any]) -> str:
    """The main table and what one must know to read it: for the terminal, and to open `report.md`."""
    if not report["systems"]:
        return "No system was scored or timed."
    return results_table(report) + "\n\n" + "\n".join(_notes(report))


def _notes(report: Mapping[str, Any]) -> list[str]:
    systems: dict[str, dict[str, Any]] = report["systems"]
    notes = []
    signatures = {name: system["signature"] for name, system in systems.items() if "signature" in system}
    if len(set(signatures.values())) == 1:
        notes.append(f"- BLEU: sacreBLEU, `{next(iter(signatures.values()))}`")
    else:
        notes += [f"- BLEU of {name}: sacreBLEU, `{signature}`" for name, signature in signatures.items()]
    if signatures:
        note = "- brevity: brevity penalty; repeats: sentences in which a token follows itself"
        rates = {
            rate
            for system in systems.values()
            if (rate := system.get("reference_repetition_rate")) is not None
        }
        if rates:
            note += " (in the reference: " + ", ".join(f"{rate:.1%}" for rate in sorted(rates)) + ")"
        notes.append(note)
    latency = report["latency"]
    if latency:
        beam, threads = latency.get("beam_baseline"), latency["threads"]
        notes.append(
            f"- latency: median and 90th percentile in ms a batch, side by side on {latency['device']}, "
            f"{latency['precision']}, {threads} thread{'s' * (threads > 1)}, at least {latency['sentences']} "
            f"sentences; greedy is {latency['baseline']}" + (f", beam is {beam}" if beam else "")
        )
    return notes


def render_markdown(report: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """`report.md`: the table, pictures, latents, stages, machine, versions, seed and commands.

    Args:
        report: as `build_report` returns it.
        plots: file names of pictures, relative to the report.
    """
    parts = [f"# {report['title']}", results(report)]
    parts += [f"![{name}]({name})" for name in plots]
    if report["latents"]:
        rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in report["latents"].items()]
        parts += ["## Latents", markdown_table(("figure", "value"), rows)]
    return "\n\n".join([*parts, *made_with(report)]) + "\n"


def provenance(
    commands: Sequence[str], stages: Mapping[str, float] | None = None, seed: int | None = None
) -> dict[str, Any]:
    """What a report says of its making, here and now, for `made_with`.

    Args:
        commands: that made the numbers.
        stages: seconds by stage.
        seed: of the training; None where a report has several.
    """
    return {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "seed": seed,
        "commands": list(commands),
        "stages": dict(stages or {}),
    }


def made_with(report: Mapping[str, Any]) -> list[str]:
    """Paragraphs on what `provenance` put into a report."""
    parts = []
    if report["stages"]:
        rows = [(name, f"{seconds:.0f}") for name, seconds in report["stages"].items()]
        rows.append(("total", f"{sum(report['stages'].values()):.0f}"))
        parts += ["## Time", markdown_table(("stage", "seconds"), rows)]
    machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None)
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    facts = [f"- machine: {machine}", f"- versions: {versions}"]
    if report["seed"] is not None:
        facts.append(f"- seed: {report['seed']}")
    parts += ["## Made with", "\n".join(facts)]
    if report["commands"]:
        parts.append("```sh\n" + "\n".join(report["commands"]) + "\n```")
    return parts
