"""One report out of scores, latencies and what else is known of a comparison: `report.json`, `report.md`."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from ..machine import describe_machine, describe_versions
from .tables import code, code_block, escape, markdown_table


def comparison_report(
    title: str,
    systems: Mapping[str, Mapping[str, Any]] | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    latency: Mapping[str, Any] | None = None,
    latents: Mapping[str, float] | None = None,
    stages: Mapping[str, float] | None = None,
    commands: Sequence[str] = (),
    seed: int | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of `report.json`. Every part but the title may be missing.

    Args:
        title: of the report.
        systems: by name, what each is declared as: its checkpoints and options.
        scores: by name, see `Score`.
        latency: see `Comparison.time`.
        latents: flat figures about the latent variables.
        stages: seconds by stage.
        commands: that made the numbers.
        seed: of the training.
        notes: lines to stand under the table.

    Returns:
        `title`, `notes`, `systems` (by name: `bleu`, `signature`, `latency_ms`, `speedup_vs_greedy`, ... as
        far as known, and `options`), `latents`, `machine`, `versions`, `seed`, `commands`, `stages` and
        `latency` (how it was measured).
    """
    systems, scores, latency = systems or {}, scores or {}, dict(latency or {})
    timed: dict[str, Any] = latency.pop("systems", {})
    found = {}
    for name in dict.fromkeys((*systems, *timed, *scores)):
        options = {"options": dict(systems[name])} if name in systems else {}
        found[name] = {**scores.get(name, {}), **timed.get(name, {}), **options}
    made = provenance(commands, stages, seed)
    return {
        "title": title,
        "notes": list(notes),
        "systems": found,
        "latents": dict(latents or {}),
        **made,
        "machine": latency.pop("machine", None) or made["machine"],
        "latency": latency,
    }


def without_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    """A report, or a word of a command, with names for folders: it may be read far from where it was made.

    Args:
        value: of JSON.
        folders: by name. The first one that a path is in counts.
    """
    if isinstance(value, dict):
        return {key: without_folders(each, folders) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each, folders) for each in value]
    if isinstance(value, str):
        for name, folder in folders.items():
            for path in sorted({os.path.abspath(folder), str(folder)} - {"."}, key=len, reverse=True):
                # The whole path, at the start of a word or behind NAME= or a ':'.
                pattern = rf"(?<![^=:]){re.escape(path)}(?=[/:]|\Z)"
                value = re.sub(pattern, name, value)
    return value


def results_table(report: Mapping[str, Any]) -> str:
    """The main table of a report: one row a system, with the columns of which at least one value is known."""
    systems: dict[str, dict[str, Any]] = report["systems"]
    sizes = list(dict.fromkeys(size for system in systems.values() for size in system.get("latency_ms", {})))
    columns: list[tuple[str, list[str]]] = [
        ("BLEU", [_format(system.get("bleu"), ".1f") for system in systems.values()]),
        ("chrF", [_format(system.get("chrf"), ".1f") for system in systems.values()]),
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
    for title, key in (("BLEU", "signature"), ("chrF", "chrf_signature")):
        signatures = {name: system[key] for name, system in systems.items() if key in system}
        if len(set(signatures.values())) == 1:
            notes.append(f"- {title}: sacreBLEU, {code(next(iter(signatures.values())))}")
        else:
            notes += [
                f"- {title} of {escape(name)}: sacreBLEU, {code(each)}" for name, each in signatures.items()
            ]
    if any("signature" in system for system in systems.values()):
        rates = {each["reference_repetition_rate"] for each in systems.values() if "signature" in each}
        notes.append(
            "- brevity: brevity penalty; repeats: sentences in which a token follows itself (in the "
            f"reference: {', '.join(f'{rate:.1%}' for rate in sorted(rates))})"
        )
    latency = report["latency"]
    if latency:
        beam, threads = latency.get("beam_baseline"), latency["threads"]
        notes.append(
            "- latency: median and 90th percentile in ms a batch, side by side on "
            f"{escape(latency['device'])}, {latency['precision']}, {threads} thread{'s' * (threads > 1)}, "
            f"at least {latency['sentences']} sentences; greedy is {escape(latency['baseline'])}"
            + (f", beam is {escape(beam)}" if beam else "")
        )
    return notes + [f"- {escape(note)}" for note in report.get("notes", ())]


def write_report(report: Mapping[str, Any], plots: Sequence[str], out: Path) -> None:
    """Write `report.json` and `report.md`; `plots` are the names of those in the folder."""
    write_json(out / "report.json", dict(report))
    write_text(out / "report.md", render_markdown(report, plots))


def render_markdown(report: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """`report.md`: the table, plots, systems, latents, stages, machine, versions, seed and commands.

    Args:
        report: as `comparison_report` returns it.
        plots: file names of plots, relative to the report.
    """
    parts = [f"# {escape(report['title'])}", results(report)]
    parts += [f"![{name}]({name})" for name in plots]
    declared = {name: system["options"] for name, system in report["systems"].items() if "options" in system}
    if declared:
        parts += [
            "## Systems",
            "\n".join(f"- {escape(name)}: {_words(each)}" for name, each in declared.items()),
        ]
    if report["latents"]:
        rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in report["latents"].items()]
        parts += ["## Latents", markdown_table(("figure", "value"), rows)]
    return "\n\n".join([*parts, *made_with(report)]) + "\n"


def _words(options: Mapping[str, Any]) -> str:
    """Checkpoints and options of a system, as they are typed."""
    settings = [f"{name}={value}" for name, value in options.items() if name != "checkpoints"]
    return code(" ".join([":".join(options["checkpoints"]), *settings]))


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
    facts = [f"- machine: {escape(machine)}", f"- versions: {escape(versions)}"]
    if report["seed"] is not None:
        facts.append(f"- seed: {report['seed']}")
    parts += ["## Made with", "\n".join(facts)]
    if report["commands"]:
        parts.append(code_block(report["commands"], "sh"))
    return parts
