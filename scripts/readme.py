#!/usr/bin/env python3
"""Write what is generated (results in README.md, examples/OPTIONS.md), or check that it is up to date."""

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from options_reference import reference

from vqnat_plugin import __version__
from vqnat_plugin.evaluation.quantizer_benchmark import FLAT, PEER
from vqnat_plugin.evaluation.tables import escape
from vqnat_plugin.files import write_text
from vqnat_plugin.imaging.report import COLLAPSED
from vqnat_plugin.reading import read_json

ROOT = Path(__file__).resolve().parent.parent
# The first is the one whose numbers stand at the top.
TRANSLATION = ("multi30k/results", "own_corpus/results", "quickstart/results")
# Untrained models, with AMX and without; and drafts that are checked.
UNTRAINED = ("speed/results", "speed/results/epyc")
VERIFIED = "speed/results/verification"
SIZES = ("batch_1", "batch_32")
# Those whose exported models are measured as well.
TRAINED = {"Multi30k": "multi30k/results", "Tatoeba": "own_corpus/results"}


def _report(examples: Path, folder: str) -> tuple[dict[str, Any], str]:
    """A committed report, and a link to it from the README, which names an earlier version."""
    report = read_json(examples / folder / "report.json")
    version = report["versions"]["vqnat-plugin"]
    label = "report" if version == __version__ else f"report of version {version}"
    return report, f"[{label}](examples/{folder}/report.md)"


def _machine(report: Mapping[str, Any]) -> str:
    known = report["machine"]
    instructions = f" ({known['instructions']})" if known.get("instructions") else ""
    return f"{known['cpu']}{instructions}, {known['cores']} cores"


def _cpu(report: Mapping[str, Any]) -> str:
    """The name of a processor, without what only fills it."""
    return str(report["machine"]["cpu"]).replace("(R)", "").removesuffix(" Processor")


def _machines(examples: Path) -> str:
    """The processors of the reports in the table: of all, or of each where they differ."""
    by_cpu: dict[str, list[str]] = {}
    for recipe in TRANSLATION:
        report, _ = _report(examples, recipe)
        cpu = f"{_cpu(report)}, {report['machine']['cores']} cores"
        by_cpu.setdefault(cpu, []).append(report["title"].partition(",")[0].partition(":")[0])
    if len(by_cpu) == 1:
        return next(iter(by_cpu))
    return "; ".join(f"{' and '.join(titles)}: {cpu}" for cpu, titles in by_cpu.items())


def gains(examples: Path) -> str:
    """What decoding with latents gains and costs, and the figures behind it."""
    fast = [_report(examples, folder)[0]["systems"]["fast_int8"] for folder in UNTRAINED]
    alone, many = (
        [f"{each['ratios'][size]['ct2_6-6_int8']['ratio']:.1f}" for each in fast] for size in SIZES
    )
    trained = {name: _report(examples, folder)[0]["systems"] for name, folder in TRAINED.items()}
    lost = ", ".join(
        f"{systems['int8']['bleu']:.1f} instead of {systems['ct2_int8']['bleu']:.1f} on {name}"
        for name, systems in trained.items()
    )
    threads = _report(examples, UNTRAINED[0])[0]["latency"]["threads"]
    parts = [each["profile_ms"]["batch_1"]["latent steps"] for each in fast]
    steps = [part / each["latency_ms"]["batch_1"]["median"] for part, each in zip(parts, fast, strict=True)]
    long, short = (_sub_words_a_code(_report(examples, name)[0]) for name in (UNTRAINED[0], TRANSLATION[0]))
    checked = _report(examples, VERIFIED)[0]["systems"]["tolerance_11.5"]
    times = checked["ratios"]["batch_1"]["ct2_greedy"]
    slower = [
        f"{systems['int8_verified']['ratios']['batch_1']['ct2_int8']['ratio']:.2f}"
        for systems in trained.values()
    ]
    report, link = _report(examples, TRANSLATION[0])
    once, together = (report["systems"]["student_greedy"]["speedup"][size] for size in SIZES)
    return (
        f"- **Speed, at the paper's size:** {' to '.join(sorted(alone, key=float))} times as fast as a "
        f"Transformer, one sentence at a time, and {' to '.join(sorted(many, key=float))} times in batches "
        f"of 32 (untrained models, a code for {long} sub-words, as in the paper). Both in int8 on a CPU "
        f"({threads} thread): the model as `vqnat export` "
        "writes it, without fairseq and torch, and the Transformer in CTranslate2, the fastest engine for it "
        f"that we know. The trained models below have a code for {short}: so many codes would take "
        f"{' to '.join(f'{100 * share * (long / short - 1):.0f}' for share in sorted(steps))} % more time.\n"
        f"- **The price:** BLEU, {lost} (small models, greedy). Small Transformers are fast themselves: "
        "there less of it pays, as the second table shows.\n"
        "- **Or slower than that, without the price:** with `--verify` the teacher reads the translation as "
        "a draft, a few passes for a sentence, and puts its own sub-words where they differ. **The output is "
        "the teacher's greedy translation, token for token** in fp32; the times here are of int8, which "
        "rounds. At the paper's size, untrained, "
        f"{checked['passes']:.0f} passes for 25 tokens are {times['ratio']:.1f} ({times['low']:.1f} to "
        f"{times['high']:.1f}) times as fast as the teacher by itself; with the small models below it is "
        f"{' and '.join(slower)} times. With a tolerance, more of the draft stays.\n"
        f"- **Inside fairseq:** {once['vs_greedy']:.1f} times as fast as the teacher, greedy, and "
        f"{once['vs_beam']:.1f} times as fast as with beam 4, one sentence at a time; in batches of 32, "
        f"{together['vs_greedy']:.2f} and {together['vs_beam']:.1f} times (Multi30k, fp32; {link}).\n\n"
        f"{_untrained(examples)} {_trained(examples)}"
    )


def _sub_words_a_code(report: Mapping[str, Any]) -> int:
    """Of the models for speed, by the command that trained them."""
    [command] = (each for each in report["commands"] if re.search("--arch vq_nat_em_(small_)?6_1_3 ", each))
    [steps] = re.findall(r"--compress-steps (\d)", command)
    return 1 << int(steps)


def _untrained(examples: Path) -> str:
    """Exported models of the paper's size against the fastest engine for Transformers."""
    with_amx, without = (_report(examples, folder)[0] for folder in UNTRAINED)
    checked, _ = _report(examples, VERIFIED)
    most = max(system.get("passes", 0) for system in checked["systems"].values())
    drafts = [_report(examples, folder)[0]["systems"]["int8_verified"] for folder in TRAINED.values()]
    read = [f"{each['mean_output_tokens'] / each['passes']:.1f}" for each in drafts]
    header = ["exported model, untrained", "teacher", "batch 1", "batch 32", ""]
    return (
        "How many times as fast as the teacher in CTranslate2, greedy, on an "
        f"{_cpu(with_amx)} with AMX / an {_cpu(without)} without (d 512, 32,000 sub-words; 6-6: layers of "
        "the teacher's encoder and decoder; 6_1_3: of encoder, latent predictor and decoder):\n\n"
        f"{_table(header, _untrained_rows(examples))}\n\n"
        "Verified is a run of its own, with 95 % intervals. Untrained models agree by chance, so a tolerance "
        f"sets the passes here: with {most:.0f} nothing of the draft stays. The trained models below need "
        f"one for {' and '.join(read)} tokens."
    )


def _untrained_rows(examples: Path) -> list[list[str]]:
    """Models of the paper's size, on two processors."""
    made = [_report(examples, folder) for folder in UNTRAINED]
    reports, (with_amx, without) = [report for report, _ in made], [link for _, link in made]
    both = f"{with_amx.replace('[report', '[AMX')}, {without.replace('[report', '[without')}"

    def ratio(name: str, size: int, layers: str) -> str:
        each = (
            report["systems"][name]["ratios"][f"batch_{size}"][f"ct2_{layers}_int8"] for report in reports
        )
        return " / ".join(f"{found['ratio']:.1f}" for found in each)

    def row(name: str, system: str, layers: str, links: str = "") -> list[str]:
        return [name, layers, ratio(system, 1, layers), ratio(system, 32, layers), links]

    checked, link = _report(examples, VERIFIED)

    def passes(name: str, links: str = "") -> list[str]:
        system = checked["systems"][name]
        times = system["ratios"]["batch_1"]["ct2_greedy"]
        spread = f"- / {times['ratio']:.1f} ({times['low']:.1f} to {times['high']:.1f})"
        passes = f"{system['passes']:.0f} pass" + "es" * (system["passes"] > 1)
        what = f"the same, verified in {passes} (25 tokens)"
        return [what, "6-6", spread, "", links]

    return [
        row("paper's size, shape for speed (`vq_nat_em_6_1_3`)", "fast_int8", "6-6", both),
        row("the same", "fast_int8", "6-1"),
        row("the same, four candidates", "fast_int8_4", "6-6"),
        passes("verified", link),
        *map(passes, ("tolerance_11.5", "tolerance_12")),
        row("paper's size and shape (`vq_nat_em`)", "base_int8", "6-6"),
    ]


def _trained(examples: Path) -> str:
    """The small shape for speed once trained, on two corpora, against the same teacher's engine."""
    made = {name: _report(examples, recipe) for name, recipe in TRAINED.items()}
    reports = [report for report, _ in made.values()]
    header = [
        "exported model, trained",
        *(part for name in made for part in (f"{name}: BLEU", "batch 1", "batch 32")),
    ]

    def row(what: str, name: str) -> list[str]:
        cells = [what]
        for report in reports:
            found = report["systems"][name]
            ratios = (found["ratios"][f"batch_{size}"]["ct2_int8"]["ratio"] for size in (1, 32))
            cells += [f"{found['bleu']:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
        return cells

    def each(key: str, name: str) -> str:
        return " / ".join(f"{report['systems'][name][key]:.1f}" for report in reports)

    def verified(name: str) -> str:
        return f"in {each('passes', name)} passes ({each('mean_output_tokens', name)} tokens)"

    tolerance = reports[0]["systems"]["int8_tolerant"]["options"]["tolerance"]
    rows = [
        row("one candidate", "int8"),
        row("four candidates", "int8_4"),
        row("four candidates, rescored by the teacher", "int8_4_rescored"),
        row(f"verified {verified('int8_verified')}", "int8_verified"),
        row(f"with a tolerance of {tolerance:g} nats {verified('int8_tolerant')}", "int8_tolerant"),
        row("teacher (3-3) in CTranslate2, greedy", "ct2_int8"),
        row("teacher (3-3) in CTranslate2, beam 4", "ct2_int8_beam4"),
    ]
    lenpen = {
        name: report["systems"]["int8_4"]["options"].get("lenpen") for name, (report, _) in made.items()
    }
    ranked = "".join(
        f" {name}: four candidates by their own score with `--lenpen {value:g}`, chosen on valid."
        for name, value in lenpen.items()
        if value is not None
    )
    machines: dict[str, list[str]] = {}
    for name, (report, link) in made.items():
        machines.setdefault(_machine(report), []).append(f"{name} ({link})")
    where = "; ".join(f"{' and '.join(names)} on an {machine}" for machine, names in machines.items())
    return (
        "The small shape for speed (`vq_nat_em_small_6_1_3`) after training, against its teacher in the same "
        f"way: {where}. {_unsure(made)}{ranked}\n\n"
        f"{_table(header, rows)}"
    )


def _unsure(made: Mapping[str, tuple[dict[str, Any], str]]) -> str:
    """The corpora on which one candidate may be no faster, by the interval of the ratio."""
    ratios = {
        name: report["systems"]["int8"]["ratios"]["batch_1"]["ct2_int8"] for name, (report, _) in made.items()
    }
    return " ".join(
        f"On {name}, {each['ratio']:.2f} times may be none: the 95 % interval is {each['low']:.3f} to "
        f"{each['high']:.3f}."
        for name, each in ratios.items()
        if each["low"] <= 1.0
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A table of figures; a last column without a name has links."""
    lines = [header, ["---", *("---:" if name else "---" for name in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _translation_rows(examples: Path) -> list[list[str]]:
    rows = []
    for recipe in TRANSLATION:
        report, link = _report(examples, recipe)
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


def summary(examples: Path) -> str:
    """The tables of all committed reports, with links to them."""
    header = ["", "teacher, beam 4", "greedy", "student", "4 candidates", "rescored"]
    header += ["x greedy, batch 1", "x beam", "x greedy, batch 32", "x beam", "minutes, whole recipe", ""]
    first, _ = _report(examples, TRANSLATION[0])
    signature = first["systems"]["student_greedy"]["signature"]
    text = [
        _table(header, _translation_rows(examples)),
        f"BLEU: sacreBLEU, `{signature}` (quickstart: twelve references). x: how many times faster the "
        "student with greedy latents is than the teacher with fairseq's decoder, greedy and beam 4: ratios "
        "of medians, measured side by side, one thread, fp32. Candidates are ranked by the model's own "
        f"score, or rescored by the teacher. {_machines(examples)}; seed {first['seed']}"
        f"{_elsewhere(examples)}. Each report stands beside its recipe.",
    ]
    images, link = _report(examples, "cifar10/results")
    (figures,) = images["results"]["vq_vae_em"]
    bits = figures["bits_per_dim"]
    compared, comparison = _report(examples, "cifar10/results/compare")
    collapsed = sum(each["usage"] < COLLAPSED for row in compared["results"].values() for each in row)
    trainings = sum(map(len, compared["results"].values()))
    ablations, ablation = _report(examples, "ablations/results")
    text.append(
        f"{images['title']} ({', '.join(images['notes'])}, which are smoother: not to be compared with "
        f"published figures): {bits['total']:.2f} bits/dim with the learned prior "
        f"({bits['reconstruction']:.2f} for images given codes, {bits['prior']:.2f} for codes), "
        f"{figures['usage']:.0%} of the codes used, PSNR {figures['psnr']:.1f} dB: {link}. "
        f"{len(compared['results'])} settings of soft EM, hard EM and gradients, three seeds each: "
        f"{collapsed} of {trainings} trainings collapsed: {comparison}. The paper's comparisons with small "
        f"models on Multi30k, two seeds: {_ablations(ablations)} ({ablation})."
    )
    return "\n\n".join(text)


def _elsewhere(examples: Path) -> str:
    """The recipes whose stages ran elsewhere, or nobody knows where."""
    reports = (_report(examples, recipe)[0] for recipe in TRANSLATION)
    found = [report for report in reports if report.get("elsewhere")]
    titles = " and ".join(report["title"].partition(",")[0] for report in found)
    known = all(processors for report in found for processors in report["elsewhere"].values())
    what = "not all on that processor" if known else "on which processors they were taken is not on record"
    return f"; minutes of {titles}: {what}" if found else ""


def _ablations(report: Mapping[str, Any]) -> str:
    """BLEU of both kinds of EM on raw and distilled targets."""
    rows = report["comparisons"]["distillation"]["rows"]
    bleu = {name: _bleu(row) for name, row in rows.items()}
    return (
        f"distilled targets are worth {_gain(bleu, 'soft m = 10', 'soft')}, {_gain(bleu, 'hard', 'hard')}; "
        "the section on the bottleneck has the two side by side with three seeds"
    )


def _gain(bleu: Mapping[str, str], row: str, kind: str) -> str:
    raw, distilled = bleu[f"{row}, raw"], bleu[f"{row}, distilled"]
    return f"{float(distilled) - float(raw):.1f} BLEU with {kind} EM ({distilled} against {raw})"


def _bleu(row: Mapping[str, Any]) -> str:
    """Of the greedy latents of a row of a grid, mean over its seeds."""
    return f"{statistics.mean(cell['systems']['predicted']['bleu'] for cell in row['cells']):.1f}"


def quantisers(examples: Path) -> str:
    """EM beside the peer: time, memory, how well codes are found; and beside what came after it."""
    report, link = _report(examples, "bottleneck/results")
    settings = report["settings"]
    size = min(row["codes"] for row in report["speed"])
    speed = {row["method"]: row for row in report["speed"] if row["codes"] == size}
    quality = {row["method"]: statistics.mean(row["excess"]) for row in report["quality"]}
    names = {"hard": "hard EM", "monte_carlo": "Monte-Carlo", "posterior": "exact posterior", PEER: PEER}
    default = quality["hard, default revival"]
    best = min(quality[name] for name in quality if name.startswith(PEER))
    excess = [best if name == PEER else quality[name] for name in names]

    def products(name: str) -> str:
        found = f"{speed[name]['products']:.2f}"
        return f"{found} to {speed[FLAT]['products']:.2f}" if name == "posterior" else found

    rows = [
        ["time (1: the product of vectors and codes)", *map(products, names)],
        ["memory, MiB", *(f"{speed[name]['peak_mib']:.0f}" for name in names)],
        ["excess error, mixture of Gaussians", *(f"{value:.1%}" for value in excess)],
    ]
    images, other = _report(examples, "bottleneck/results/images")

    def bits(cells: list[Any]) -> str:
        return f"{statistics.mean(cell['bits_per_dim']['total_uniform'] for cell in cells):.2f}"

    # "64 values, soft EM": each kind with all its widths.
    kinds: dict[str, list[str]] = {}
    for name, cells in images["results"].items():
        kinds.setdefault(name.partition(", ")[2], []).append(bits(cells))
    compared = ", ".join(f"{name} {' / '.join(found)}" for name, found in kinds.items())
    text, third = _report(examples, "ablations/results/kinds")
    rows_of_kinds = text["comparisons"]["kinds"]["rows"]
    translated = "; ".join(f"{name} {_bleu(row)}" for name, row in rows_of_kinds.items())
    return (
        f"{_table(['', *names.values()], rows)}\n\n"
        f"One step, E and M, of {settings['vectors']:,} vectors of {settings['dim']} values and {size:,} "
        f"codes, {settings['threads']} thread; the exact posterior where few codes matter, to "
        f"where most do; {PEER} does hard EM. Error: soft EM with the mixture's true temperature, all of "
        f"ours with `revival_threshold=0.5` (hard EM with its default, 0.3: {default:.1%}), "
        f"{PEER} with the best of three settings ({link}). On images, bits a dimension with a uniform prior "
        f"over codes, the same small budget, three seeds, code vectors of 64 / 4 values (FSQ: 3): {compared} "
        f"({other}). On text, BLEU of small models on Multi30k, greedy, three seeds: {translated} ({third}). "
        "Gumbel-softmax has `commitment_weight=0.02` in both, by which its divergence is weighed; the "
        "default of all kinds is 0.25."
    )


def fill(text: str, examples: Path) -> str:
    """`text` with fresh content between the markers of each generated part.

    Raises:
        ValueError: a marker is missing.
    """
    generators: dict[str, Callable[[Path], str]] = {
        "gains": gains,
        "quantisers": quantisers,
        "results": summary,
    }
    for name, generate in generators.items():
        start, end = f"<!-- {name}: written by scripts/readme.py -->", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"needs the lines {start} and {end}")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{generate(examples)}\n{end}{rest.split(end, 1)[1]}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when a file is out of date"
    )
    options = parser.parse_args()
    readme, all_options = ROOT / "README.md", ROOT / "examples" / "OPTIONS.md"
    try:
        fresh = {
            readme: fill(readme.read_text(encoding="utf-8"), ROOT / "examples"),
            all_options: reference(),
        }
    except ValueError as error:
        sys.exit(f"readme: README.md {error}")
    for path, text in fresh.items():
        if options.check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"readme: {path.relative_to(ROOT)} is out of date; run scripts/readme.py")
        if not options.check:
            write_text(path, text)


if __name__ == "__main__":
    main()
