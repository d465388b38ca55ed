"""What decoding with latents gains and costs: the first part of the README."""

import math
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import TRANSLATION, busy, cpu, enumerated, read_report, table

# Untrained models, with AMX and without; and drafts that are checked.
UNTRAINED = ("speed/results", "speed/results/epyc")
VERIFIED = "speed/results/verification"
SIZES = ("batch_1", "batch_32")
# Those whose exported models are measured as well.
TRAINED = {"Multi30k": "multi30k/results", "Tatoeba": "own_corpus/results"}

# The students of several seeds of the first of these.
SEEDS = "multi30k/results/seeds"


def gains(examples: Path) -> str:
    """What decoding with latents gains and costs, and the figures behind it."""
    fast = [read_report(examples, folder)[0]["systems"]["fast_int8"] for folder in UNTRAINED]
    alone, many = (
        [f"{each['ratios'][size]['ct2_6-6_int8']['ratio']:.1f}" for each in fast] for size in SIZES
    )
    trained = {name: read_report(examples, folder)[0]["systems"] for name, folder in TRAINED.items()}
    lost = ", ".join(
        f"{systems['int8']['bleu']:.1f} instead of {systems['ct2_int8']['bleu']:.1f} on {name}"
        for name, systems in trained.items()
    )
    threads = read_report(examples, UNTRAINED[0])[0]["latency"]["threads"]
    parts = [each["profile_ms"]["batch_1"]["latent steps"] for each in fast]
    steps = [part / each["latency_ms"]["batch_1"]["median"] for part, each in zip(parts, fast, strict=True)]
    long, short = (
        _sub_words_a_code(read_report(examples, name)[0]) for name in (UNTRAINED[0], TRANSLATION[0])
    )
    # Untrained, all models write as much.
    [written] = {round(each["mean_output_tokens"]) for each in fast}
    more = math.ceil(written / short) / math.ceil(written / long) - 1
    checked = read_report(examples, VERIFIED)[0]["systems"]["tolerance_11.5"]
    times = checked["ratios"]["batch_1"]["ct2_greedy"]
    slower = [
        f"{systems['int8_verified']['ratios']['batch_1']['ct2_int8']['ratio']:.2f}"
        for systems in trained.values()
    ]
    report, link = read_report(examples, TRANSLATION[0])
    once, together = (report["systems"]["student_greedy"]["speedup"][size] for size in SIZES)
    return (
        f"- **Speed, at the paper's size:** {' to '.join(sorted(alone, key=float))} times as fast as a "
        f"Transformer, one sentence at a time, and {' to '.join(sorted(many, key=float))} times in batches "
        f"of 32 (untrained models, a code for {long} sub-words, as in the paper). Both in int8 on a CPU "
        f"({threads} thread): the model as `vqnat export` "
        "writes it, without fairseq and torch, and the Transformer in CTranslate2, the fastest engine for it "
        f"that we know. The trained models below have a code for {short}: so many codes would take "
        f"{' to '.join(f'{100 * share * more:.0f}' for share in sorted(steps))} % more time.\n"
        f"- **The price:** BLEU, {lost} (small models, greedy). Small Transformers are fast themselves: "
        "there less of it pays, as the second table shows.\n"
        "- **Or slower than that, without the price:** with `--verify` the teacher reads the translation as "
        "a draft, a few passes for a sentence, and puts its own sub-words where they differ. **The output is "
        "the teacher's greedy translation, token for token** in fp32; the times here are of int8, which "
        "rounds. At the paper's size, untrained, "
        f"{checked['passes']:.0f} passes for 25 tokens are {times['ratio']:.1f} ({times['low']:.1f} to "
        f"{times['high']:.1f}) times as fast as the teacher by itself; with the small models below it is "
        f"{enumerated(slower)} times. With a tolerance, more of the draft stays.\n"
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
    with_amx, without = (read_report(examples, folder)[0] for folder in UNTRAINED)
    checked, _ = read_report(examples, VERIFIED)
    most = max(system.get("passes", 0) for system in checked["systems"].values())
    drafts = [read_report(examples, folder)[0]["systems"]["int8_verified"] for folder in TRAINED.values()]
    read = [f"{each['mean_output_tokens'] / each['passes']:.1f}" for each in drafts]
    header = ["exported model, untrained", "teacher", "batch 1", "batch 32", ""]
    return (
        "How many times as fast as the teacher in CTranslate2, greedy, on an "
        f"{cpu(with_amx)} with AMX / an {cpu(without)} without (d 512, 32,000 sub-words; 6-6: layers of "
        "the teacher's encoder and decoder; 6_1_3: of encoder, latent predictor and decoder):\n\n"
        f"{table(header, _untrained_rows(examples))}\n\n"
        "Verified is a run of its own, with 95 % intervals. Untrained models agree by chance, so a tolerance "
        f"sets the passes here: with {most:.0f} nothing of the draft stays. The trained models below need "
        f"one for {enumerated(read)} tokens."
    )


def _untrained_rows(examples: Path) -> list[list[str]]:
    """Models of the paper's size, on two processors."""
    made = [read_report(examples, folder) for folder in UNTRAINED]
    reports, (with_amx, without) = [report for report, _ in made], [link for _, link in made]
    both = f"{with_amx.replace('[report', '[AMX')}, {without.replace('[report', '[without')}"

    def ratio(name: str, size: int, layers: str) -> str:
        each = (
            report["systems"][name]["ratios"][f"batch_{size}"][f"ct2_{layers}_int8"] for report in reports
        )
        return " / ".join(f"{found['ratio']:.1f}" for found in each)

    def row(name: str, system: str, layers: str, links: str = "") -> list[str]:
        return [name, layers, ratio(system, 1, layers), ratio(system, 32, layers), links]

    checked, link = read_report(examples, VERIFIED)

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
        # With more of the draft kept, half of the sentences take far fewer passes than the mean says.
        passes("tolerance_11.5"),
        row("paper's size and shape (`vq_nat_em`)", "base_int8", "6-6"),
    ]


def _trained(examples: Path) -> str:
    """The small shape for speed once trained, on two corpora, against the same teacher's engine."""
    made = {name: read_report(examples, recipe) for name, recipe in TRAINED.items()}
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
        return f"in {each('passes', name)} passes on average ({each('mean_output_tokens', name)} tokens)"

    tolerances = (report["systems"]["int8_tolerant"]["options"]["tolerance"] for report in reports)
    tolerance = " / ".join(dict.fromkeys(f"{each:g}" for each in tolerances))
    rows = [
        row("one candidate", "int8"),
        row("four candidates", "int8_4"),
        row("four candidates, rescored by the teacher", "int8_4_rescored"),
        row(f"verified {verified('int8_verified')}", "int8_verified"),
        row(f"with a tolerance of {tolerance} nats {verified('int8_tolerant')}", "int8_tolerant"),
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
    where = "; ".join(f"{enumerated(names)} on an {machine}" for machine, names in machines.items())
    return (
        "The small shape for speed (`vq_nat_em_small_6_1_3`) after training, against its teacher in the same "
        f"way: {where}. {_unsure(made)}{busy(dict(zip(made, reports, strict=True)))}{ranked} "
        f"{_seeds(examples)}\n\n"
        f"{table(header, rows)}"
    )


def _seeds(examples: Path) -> str:
    """How far students differ that differ in nothing but their seed."""
    report, link = read_report(examples, SEEDS)
    systems = report["systems"]
    numbers = [name.removeprefix("seed_") for name in systems if re.fullmatch(r"seed_\d+", name)]

    def mean(ending: str, key: str = "bleu") -> str:
        values = [systems[f"seed_{number}{ending}"][key] for number in numbers]
        return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    return (
        f"Another seed is another student. Multi30k, {len(numbers)} seeds with the same teacher, BLEU as "
        f"mean and range: one candidate {mean('')}, four {mean('_4')}, rescored {mean('_4_rescored')}, "
        f"verified {mean('_verified')} in {mean('_verified', 'passes')} passes, with the tolerance "
        f"{mean('_tolerant')} in {mean('_tolerant', 'passes')} ({link})."
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


def _machine(report: Mapping[str, Any]) -> str:
    known = report["machine"]
    instructions = f" ({known['instructions']})" if known.get("instructions") else ""
    return f"{known['cpu']}{instructions}, {known['cores']} cores"
