"""Quality and speed of the recipes: the README's section on results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import TRANSLATION, busy, corpus, cpu, enumerated, mean_bleu, read_report, table

from vqnat_plugin.evaluation.tables import escape
from vqnat_plugin.imaging.report import collapsed


def summary(examples: Path) -> str:
    """The tables of all committed reports, with links to them."""
    header = ["", "teacher, beam 4", "greedy", "student", "4 candidates", "rescored"]
    header += ["x greedy, batch 1", "x beam", "x greedy, batch 32", "x beam", "minutes, whole recipe", ""]
    first, _ = read_report(examples, TRANSLATION[0])
    signature = first["systems"]["student_greedy"]["signature"]
    text = [
        table(header, _translation_rows(examples)),
        f"BLEU: sacreBLEU, `{signature}` (quickstart: twelve references). x: how many times faster the "
        "student with greedy latents is than the teacher with fairseq's decoder, greedy and beam 4: ratios "
        "of medians, measured side by side, one thread, fp32. Candidates are ranked by the model's own "
        f"score, or rescored by the teacher. {_machines(examples)}; seed {first['seed']}"
        f"{_elsewhere(examples)}.{_busy(examples)} Debian: long, technical sentences of package "
        "descriptions, manuals and interfaces; no setting was chosen on them, and the teacher is weak, since "
        "the recipe's default of updates is small for so much text. Each report stands beside its recipe.",
    ]
    images, link = read_report(examples, "cifar10/results")
    (figures,) = images["results"]["vq_vae_em"]
    bits = figures["bits_per_dim"]
    compared, comparison = read_report(examples, "cifar10/results/compare")
    trainings = [each for row in compared["results"].values() for each in row]
    ablations, ablation = read_report(examples, "ablations/results")
    text.append(
        f"{images['title']} ({', '.join(images['notes'])}, which are smoother: not to be compared with "
        f"published figures): {bits['total']:.2f} bits/dim with the learned prior "
        f"({bits['reconstruction']:.2f} for images given codes, {bits['prior']:.2f} for codes), "
        f"{figures['usage']:.0%} of the codes used, PSNR {figures['psnr']:.1f} dB: {link}. "
        f"{len(compared['results'])} settings of soft EM, hard EM and gradients, three seeds each: "
        f"{sum(map(collapsed, trainings))} of {len(trainings)} trainings collapsed: {comparison}. "
        f"The paper's comparisons with small models on Multi30k, two seeds: "
        f"{_ablations(ablations)} ({ablation})."
    )
    return "\n\n".join(text)


def _translation_rows(examples: Path) -> list[list[str]]:
    rows = []
    for recipe in TRANSLATION:
        report, link = read_report(examples, recipe)
        systems = report["systems"]

        def bleu(name: str, systems: Mapping[str, Any] = systems) -> str:
            return f"{systems[name]['bleu']:.1f}" if name in systems else "-"

        speed = systems["student_greedy"]["speedup"]
        times = [f"{speed[size][against]:.2f}" for size in speed for against in ("vs_greedy", "vs_beam")]
        minutes = sum(report["stages"].values()) / 60
        names = (
            "teacher_beam4",
            "teacher_greedy",
            "student_greedy",
            "student_4_candidates",
            "student_4_rescored",
        )
        # The first is what one has to know of a model; the others are about its figures.
        notes = "".join(f"; {note}" for note in report.get("notes", [])[:1])
        rows.append([escape(report["title"] + notes), *map(bleu, names), *times, f"{minutes:.0f}", link])
    return rows


def _machines(examples: Path) -> str:
    """The processors of the reports in the table: of all, or of each where they differ."""
    by_cpu: dict[str, list[str]] = {}
    for recipe in TRANSLATION:
        report, _ = read_report(examples, recipe)
        name = f"{cpu(report)}, {report['machine']['cores']} cores"
        by_cpu.setdefault(name, []).append(corpus(report))
    if len(by_cpu) == 1:
        return next(iter(by_cpu))
    return "; ".join(f"{enumerated(titles)}: {cpu}" for cpu, titles in by_cpu.items())


def _busy(examples: Path) -> str:
    reports = (read_report(examples, recipe)[0] for recipe in TRANSLATION)
    return busy({corpus(report): report for report in reports})


def _elsewhere(examples: Path) -> str:
    """The recipes whose stages ran elsewhere, or nobody knows where."""
    reports = (read_report(examples, recipe)[0] for recipe in TRANSLATION)
    found = [report for report in reports if report.get("elsewhere")]
    known = all(processors for report in found for processors in report["elsewhere"].values())
    what = "not all on that processor" if known else "on which processors they were taken is not on record"
    return f"; minutes of {enumerated([*map(corpus, found)])}: {what}" if found else ""


def _ablations(report: Mapping[str, Any]) -> str:
    """BLEU of both kinds of EM on raw and distilled targets."""
    rows = report["comparisons"]["distillation"]["rows"]
    bleu = {name: mean_bleu(row) for name, row in rows.items()}
    return (
        f"distilled targets are worth {_gain(bleu, 'soft m = 10', 'soft')}, {_gain(bleu, 'hard', 'hard')}; "
        "the section on the bottleneck has the two side by side with three seeds"
    )


def _gain(bleu: Mapping[str, str], row: str, kind: str) -> str:
    raw, distilled = bleu[f"{row}, raw"], bleu[f"{row}, distilled"]
    return f"{float(distilled) - float(raw):.1f} BLEU with {kind} EM ({distilled} against {raw})"
