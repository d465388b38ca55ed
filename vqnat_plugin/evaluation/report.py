"""One report out of scores, latencies and what else is known of a comparison: `report.json`, `report.md`."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from ..machine import describe_machine, describe_versions
from ..options import words
from .steadiness import as_words, is_busy
from .tables import code, code_block, escape, markdown_table

LATENTS = (
    "Of codes of the references, where a diagnosis takes those of the teacher's output. Reconstruction: what "
    "the decoder makes of these codes, against the references. Predictor and words: teacher-forced. Usage: "
    "of the codes, by these sentences."
)


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
    latents_of: str = "",
) -> dict[str, Any]:
    """The content of `report.json`. Every part but the title may be missing.

    Args:
        title: of the report.
        systems: by name, what each is declared as: its checkpoints and options.
        scores: by name, see `Score`.
        latency: see `SideBySide.time`.
        latents: flat figures about the latent variables.
        stages: seconds by stage.
        commands: that made the numbers.
        seed: that sentences were chosen with.
        notes: lines to stand under the table.
        latents_of: the system that has the latents.

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
        "latents_of": latents_of,
        **made,
        "machine": latency.pop("machine", None) or made["machine"],
        "latency": latency,
    }


def without_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    """A report with names for folders: it may be read far from where it was made.

    Args:
        value: of JSON. A word that is no more than a folder's name, and not where it is, may mean anything.
        folders: by name. The first one that a path is in counts.
    """
    if isinstance(value, dict):
        return {key: without_folders(each, folders) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each, folders) for each in value]
    if isinstance(value, str):
        for name, folder in folders.items():
            for path, behind in ((os.path.abspath(folder), r"(?=[/:]|\Z)"), (str(folder), "(?=/)")):
                # At the start of a word, or behind NAME= or a ':'.
                if path != ".":
                    value = re.sub(rf"(?<![^=:]){re.escape(path)}{behind}", name, value)
    return value


def own_command(program: Sequence[str], options: Any, folders: Mapping[str, Path]) -> str:
    """The command that makes a report, with names for folders.

    Args:
        program: its first words.
        options: a dataclass of options; those that are one of the folders become its name.
        folders: see `without_folders`.
    """
    named = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path) and value in folders.values():
            inside = without_folders(str(value), folders)
            whole = next(name for name, folder in folders.items() if folder == value)
            named[field.name] = Path(whole if inside == str(value) else inside)
    return shlex.join(without_folders([*program, *words(replace(options, **named))], folders))


def results_table(report: Mapping[str, Any]) -> str:
    """The main table of a report: one row a system, with the columns of which at least one value is known."""
    systems: dict[str, dict[str, Any]] = report["systems"]
    rows = list(systems.values())
    columns: list[tuple[str, list[str]]] = [
        # Where all systems are alike, a note says it.
        *((key, values) for key in ("kind", "precision") if len(set(values := _texts(rows, key))) > 1),
        ("BLEU", [_format(system.get("bleu"), ".1f") for system in rows]),
        ("95 %", [_format(system.get("bleu_interval"), ".1f") for system in rows]),
        ("p", [_format(system.get("bleu_p"), ".3f") for system in rows]),
        ("chrF", [_format(system.get("chrf"), ".1f") for system in rows]),
        ("brevity", [_format(system.get("brevity_penalty"), ".3f") for system in rows]),
        ("repeats", [_format(system.get("repetition_rate"), ".1%") for system in rows]),
    ]
    columns += [
        ("tokens", [_format(system.get("mean_output_tokens"), ".1f") for system in rows]),
        ("passes", [_format(system.get("passes"), ".1f") for system in rows]),
    ]
    for size in dict.fromkeys(size for system in rows for size in system.get("latency_ms", {})):
        latencies = [system.get("latency_ms", {}).get(size, {}) for system in rows]
        columns += [
            (f"{size.replace('_', ' ')}, ms", [_format(values.get("median"), ".1f") for values in latencies]),
            ("p90", [_format(values.get("p90"), ".1f") for values in latencies]),
            *_ratios(rows, size),
        ]
    known = [(title, values) for title, values in columns if any(values)]
    header = ["system", *(title for title, _ in known)]
    return markdown_table(header, zip(systems, *(values for _, values in known), strict=True))


def _texts(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return [str(system.get(key, "")) for system in rows]


def _ratios(rows: Sequence[Mapping[str, Any]], size: str) -> Iterator[tuple[str, list[str]]]:
    """Columns of ratios to each baseline, with their intervals."""
    found = [system.get("ratios", {}).get(size, {}) for system in rows]
    for baseline in dict.fromkeys(name for ratios in found for name in ratios):
        cells = [ratios.get(baseline) for ratios in found]
        yield (
            f"vs {baseline}",
            ["{ratio:.2f}x ({low:.2f}-{high:.2f})".format(**each) if each else "" for each in cells],
        )


def profile_table(report: Mapping[str, Any]) -> str:
    """What each part of the exported models takes; empty if that is not known."""
    rows = [
        (name, size.removeprefix("batch_"), parts)
        for name, system in report["systems"].items()
        for size, parts in system.get("profile_ms", {}).items()
    ]
    if not rows:
        return ""
    titles = [title for title in rows[0][2] if any(parts[title] for *_, parts in rows)]
    return markdown_table(
        ("system", "batch", *titles),
        [(name, size, *(f"{parts[title]:.2f}" for title in titles)) for name, size, parts in rows],
    )


def _format(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def results(report: Mapping[str, Any]) -> str:
    """The main table and what one must know to read it: for the terminal, and to open `report.md`."""
    if not report["systems"]:
        return "No system was scored or timed."
    profile = profile_table(report)
    parts = [results_table(report), "\n".join(_notes(report))]
    if profile:
        parts += [
            "Medians in ms a batch; steps of the latent predictor, on average, of all pieces that a batch is "
            "decoded in:",
            profile,
        ]
    return "\n\n".join(parts)


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
    # Of a system by itself there is no p.
    tested = {
        (each["bleu_test"], each.get("bleu_baseline", ""))
        for each in systems.values()
        if "bleu_p" in each or ("bleu_test" in each and len(systems) == 1)
    }
    for test, baseline in sorted(tested):
        # sacreBLEU resamples the size of a difference, not the difference.
        size = f"of the size of the difference from {escape(baseline)}, about half of a two-sided p"
        p = f"; p: {size}" if baseline else ""
        notes.append(
            f"- 95 %: BLEU is as sure as plus or minus so much{p}: sacreBLEU's paired bootstrap, {code(test)}"
        )
    if any("signature" in system for system in systems.values()):
        rates = {each["reference_repetition_rate"] for each in systems.values() if "signature" in each}
        notes.append(
            "- brevity: brevity penalty; repeats: sentences in which a token follows itself (in the "
            f"reference: {', '.join(f'{rate:.1%}' for rate in sorted(rates))})"
        )
    if report["latency"]:
        notes += _latency_notes(report)
    return notes + [f"- {escape(note)}" for note in report.get("notes", ())]


def _latency_notes(report: Mapping[str, Any]) -> list[str]:
    latency, systems = report["latency"], report["systems"]
    threads = latency["threads"]
    precisions = {system["precision"] for system in systems.values() if "precision" in system}
    how = (
        "- latency: median and 90th percentile in ms a batch, side by side on "
        f"{escape(latency['device'])}, {', '.join(sorted(precisions)) or latency['precision']}, "
        f"{threads} thread{'s' * (threads > 1)}, at least {latency['sentences']} sentences"
    )
    notes = [
        f"{how} in batches of {' and '.join(map(str, latency['batch_sizes']))}",
        "- vs: how many times faster, by the medians; in brackets the 95 % bootstrap interval over batches",
        "- tokens: of a translation, on average, its end included",
        *["- batch 1: each sentence twice in a row, the second time counts"] * (1 in latency["batch_sizes"]),
    ]
    # Older reports do not know.
    if steady := latency.get("steadiness"):
        busy = ", so it was busy, and times are not to be relied on" * is_busy(steady)
        notes.append(
            f"- the machine: {as_words(steady)} (90th percentile {steady['p90']:g}; idle: about 1){busy}; "
            f"batches timed again because it was busy: {steady['timed_again']}"
        )
    if any("passes" in system for system in systems.values()):
        notes.append("- passes: how often the teacher reads a translation to check it, on average")
    on_cpu = [name for name, system in systems.items() if system.get("device") == "cpu"]
    if latency["device"] != "cpu" and on_cpu:
        notes.append(f"- on the CPU: {escape(', '.join(on_cpu))}")
    return notes


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
        of = f" of {escape(report['latents_of'])}" if report.get("latents_of") else ""
        parts += [f"## Latents{of}", markdown_table(("figure", "value"), rows), LATENTS]
    return "\n\n".join([*parts, *made_with(report)]) + "\n"


def _words(options: Mapping[str, Any]) -> str:
    """Checkpoints and options of a system, as they are typed."""
    settings = [f"{name}={value}" for name, value in options.items() if name != "checkpoints"]
    return code(" ".join([":".join(options["checkpoints"]), *settings]))


def provenance(
    commands: Sequence[str],
    stages: Mapping[str, float] | None = None,
    seed: int | None = None,
    measured: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What a report says of its making, for `made_with`.

    Args:
        commands: that made the numbers.
        stages: seconds by stage.
        seed: of what the commands draw (sentences, samples); None where a report has several.
        measured: with `machine` and `versions` of where each was measured; here and now if there is none.
    """
    made = list(measured)
    return {
        "machine": _each([one["machine"] for one in made if "machine" in one]) or describe_machine(),
        "versions": _each([one["versions"] for one in made if "versions" in one]) or describe_versions(),
        "seed": seed,
        "commands": list(commands),
        "stages": dict(stages or {}),
    }


def _each(many: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One of several that are alike; where they differ, all that there are, with slashes between."""
    found = {}
    for name in dict.fromkeys(name for one in many for name in one):
        values = list(dict.fromkeys(one.get(name) for one in many))
        found[name] = values[0] if len(values) == 1 else " / ".join(str(each or "none") for each in values)
    return found


def made_with(report: Mapping[str, Any]) -> list[str]:
    """Paragraphs on what `provenance` put into a report."""
    parts = []
    if report["stages"]:
        rows = [(name, f"{seconds:.0f}") for name, seconds in report["stages"].items()]
        rows.append(("total", f"{sum(report['stages'].values()):.0f}"))
        parts += ["## Time", markdown_table(("stage", "seconds"), rows)]
        parts += _elsewhere(report.get("elsewhere", {}))
    machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None)
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    facts = [f"- machine: {escape(machine)}", f"- versions: {escape(versions)}"]
    if report["seed"] is not None:
        facts.append(f"- seed: {report['seed']}")
    parts += ["## Made with", "\n".join(facts)]
    if report["commands"]:
        parts.append(code_block(report["commands"], "sh"))
    return parts


def _elsewhere(stages: Mapping[str, Sequence[str]]) -> list[str]:
    """What is to be said of stages whose seconds may not be those of the machine that the report names."""
    known = [f"{name} ({' and '.join(processors)})" for name, processors in stages.items() if processors]
    unknown = [name for name, processors in stages.items() if not processors]
    sentences = [f"Not timed on the processor below alone: {', '.join(known)}."] * bool(known)
    sentences += [f"On which processor these ran is not on record: {', '.join(unknown)}."] * bool(unknown)
    return [escape(" ".join(sentences))] if sentences else []
