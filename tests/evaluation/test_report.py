import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.evaluation.report import (
    comparison_report,
    own_command,
    provenance,
    render_markdown,
    results,
    without_folders,
)
from vqnat_plugin.options import option

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"


def score(bleu: float) -> dict[str, Any]:
    return {
        "bleu": bleu,
        "signature": SIGNATURE,
        "brevity_penalty": 0.98,
        "repetition_rate": 0.02,
        "reference_repetition_rate": 0.004,
        "sentences": 500,
    }


SCORES = {name: score(bleu) for name, bleu in (("student", 27.31), ("greedy", 28.05), ("extra", 1.0))}
LATENCY: dict[str, Any] = {
    "systems": {
        name: {
            "latency_ms": {"batch_1": {"median": median, "p90": 2 * median}},
            "ratios": {"batch_1": {"greedy": {"ratio": 26 / median, "low": 2.25, "high": 2.75}}},
            "speedup": {"batch_1": {"vs_greedy": 26 / median}},
            "speedup_vs_greedy": 26 / median,
        }
        for name, median in (("greedy", 26.0), ("student", 10.4))
    },
    "baseline": "greedy",
    "baselines": ["greedy"],
    "beam_baseline": None,
    "batch_sizes": [1],
    "sentences": 100,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "machine": {"cpu": "a processor", "cores": 2, "gpu": None},
}
COMMANDS = ["vqnat prepare", "vqnat compare data"]
LATENTS = {"reconstruction_bleu": 55.1, "predictor_accuracy": 0.353, "usage": 0.98, "perplexity": 25.0}


def full_report() -> dict[str, Any]:
    return comparison_report(
        "Title",
        {"greedy": {"checkpoints": ["a.pt", "b.pt"], "beam": 1}},
        SCORES,
        LATENCY,
        LATENTS,
        {"teacher": 150.4, "student": 300.0},
        COMMANDS,
        seed=3,
    )


def test_report_keeps_the_contract() -> None:
    report = json.loads(json.dumps(full_report()))
    assert {"systems", "latents", "machine", "versions", "seed", "commands"} <= set(report)
    student = report["systems"]["student"]
    assert student["bleu"] == 27.31 and student["signature"] == SIGNATURE
    assert student["latency_ms"]["batch_1"] == {"median": 10.4, "p90": 20.8}
    assert student["speedup_vs_greedy"] == pytest.approx(2.5)
    assert report["latents"] == LATENTS
    assert report["machine"]["cpu"] == "a processor"
    assert {"python", "torch", "sacrebleu", "vqnat-plugin"} <= set(report["versions"])
    assert report["seed"] == 3
    assert report["stages"] == {"teacher": 150.4, "student": 300.0}
    assert report["commands"] == COMMANDS
    assert report["systems"]["greedy"]["options"] == {"checkpoints": ["a.pt", "b.pt"], "beam": 1}


def test_declared_systems_come_first_and_in_their_order() -> None:
    assert list(full_report()["systems"]) == ["greedy", "student", "extra"]


def test_a_report_names_the_machines_of_its_measurements() -> None:
    one = {"machine": {"cpu": "a", "gpu": None}, "versions": {"python": "3.11"}}
    other = {"machine": {"cpu": "b", "gpu": None}, "versions": {"python": "3.11", "numpy": "2"}}
    made = provenance([], measured=[one, one])
    assert {name: made[name] for name in one} == one
    made = provenance([], measured=[one, other, {"bleu": 1.0}])
    assert made["machine"] == {"cpu": "a / b", "gpu": None}
    assert made["versions"] == {"python": "3.11", "numpy": "none / 2"}
    assert provenance([], measured=[{}])["machine"]["cores"] >= 1


def test_a_report_of_nothing_still_has_its_keys() -> None:
    report = comparison_report("Empty")
    assert report["systems"] == {} and report["latents"] == {} and report["commands"] == []
    assert report["machine"]["cores"] >= 1
    assert "No system was scored or timed." in render_markdown(report)


def test_table_shows_what_is_known_of_each_system() -> None:
    header, _, *rows = results(full_report()).split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0] == ["system", "BLEU", "brevity", "repeats", "batch 1, ms", "p90", "vs greedy"]
    assert cells[2] == ["student", "27.3", "0.980", "2.0%", "10.4", "20.8", "2.50x (2.25-2.75)"]
    assert cells[3] == ["extra", "1.0", "0.980", "2.0%", "", "", ""]


def test_columns_without_values_are_left_out() -> None:
    header = results(comparison_report("", latency=LATENCY)).splitlines()[0]
    assert "BLEU" not in header and "batch 1, ms" in header


def test_markdown_names_signature_machine_versions_seed_commands_and_plots() -> None:
    text = render_markdown(full_report(), ["quality_speed.png"])
    for part in (
        "# Title\n",
        f"`{SIGNATURE}`",
        "cpu a processor",
        "seed: 3",
        "vqnat compare data",
        "- greedy: `a.pt:b.pt beam=1`",
        "![quality_speed.png](quality_speed.png)",
        "side by side on cpu, fp32, 1 thread, at least 100 sentences in batches of 1",
        "Of codes of the references, where a diagnosis takes those of the teacher's output.",
        "in the reference: 0.4%",
        "torch ",
    ):
        assert part in text
    assert "| total   |     450 |" in text
    assert "| predictor accuracy  | 0.353 |" in text


def test_different_signatures_are_all_shown() -> None:
    scores = {"a": score(1), "b": {**score(2), "signature": "nrefs:4|tok:13a"}}
    text = results(comparison_report("", scores=scores))
    assert (
        f"BLEU of a: sacreBLEU, `{SIGNATURE}`" in text and "BLEU of b: sacreBLEU, `nrefs:4|tok:13a`" in text
    )


def test_no_name_or_title_becomes_markup() -> None:
    name = "a|b <script>x</script>\n# c"
    scores = {name: score(1), "b": {**score(2), "signature": "nrefs:4|tok:13a"}}
    options = {name: {"checkpoints": ["x`y\n.pt"], "beam": 1}}
    report = comparison_report(name, options, scores, {**LATENCY, "baseline": name}, stages={name: 1.0})
    text = render_markdown({**report, "commands": ["vqnat '\n```\n<script>'"]})
    before, after = text.split("\n````sh\n")
    assert after == "vqnat '\n```\n<script>'\n````\n"
    assert "<script>" not in before
    assert before.startswith("# a\\|b &lt;script>x&lt;/script> # c\n")
    headings = [line for line in before.splitlines() if line.startswith("#")]
    assert headings[1:] == ["## Systems", "## Time", "## Made with"]
    assert "- a\\|b &lt;script>x&lt;/script> # c: `` x`y .pt beam=1 ``" in before


def test_report_does_not_name_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"{tmp_path}/teacher.pt", "elsewhere.pt", f"{tmp_path}2/a.pt", f"x={tmp_path}/a:{tmp_path}/b"]
    report = {"systems": {"a": {"checkpoints": paths, "rescore_with": f"/data{tmp_path}/a.pt"}}, "seed": 1}
    found = without_folders(report, {"OUT": tmp_path, "DATA": Path("/data")})
    assert found["seed"] == 1
    system = found["systems"]["a"]
    assert system["checkpoints"] == ["OUT/teacher.pt", "elsewhere.pt", f"{tmp_path}2/a.pt", "x=OUT/a:OUT/b"]
    assert system["rescore_with"] == f"DATA{tmp_path}/a.pt"
    monkeypatch.chdir(tmp_path)
    words = ["runs/a/b.pt", f"{tmp_path}/runs/a", "runs/a2"]
    assert without_folders(words, {"OUT": Path("runs/a")}) == ["OUT/b.pt", "OUT", "runs/a2"]


def test_words_that_are_called_as_a_folder_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"OUT": Path("cpu"), "DATA": Path("test")}
    report = {"device": "cpu", "title": "cpu: fast", "systems": {"cpu": {"checkpoints": ["cpu/a.pt"]}}}
    found = without_folders(report, folders)
    assert found == {**report, "systems": {"cpu": {"checkpoints": ["OUT/a.pt"]}}}

    @dataclass
    class Options:
        data: Path = option(Path("x"), "", positional=True)
        out: Path = option(Path("x"), "")
        ref: tuple[Path, ...] = option((), "")
        baseline: str = option("", "")

    options = Options(Path("test"), Path("cpu"), (Path("cpu/a.de"), Path("other.de")), "cpu")
    command = own_command(["vqnat", "compare"], options, folders)
    assert command == "vqnat compare DATA --out OUT --ref OUT/a.de other.de --baseline cpu"
    # Data that are in the other folder.
    options = Options(Path("cpu/data/bin"), Path("cpu"))
    command = own_command(["vqnat"], options, {"OUT": options.out, "DATA": options.data})
    assert command == "vqnat OUT/data/bin --out OUT"
    options = Options(tmp_path / "bin", tmp_path)
    command = own_command(["vqnat"], options, {"OUT": options.out, "DATA": options.data})
    assert command == "vqnat OUT/bin --out OUT"


def test_ratios_have_intervals_and_parts_of_exported_models_a_table_of_their_own() -> None:
    parts = {"encoder": 1.0, "latent steps": 2.5, "writer": 3.0, "rest": 0.5, "steps": 4.0}
    timed = {
        name: {
            **system,
            "mean_output_tokens": 26.0,
            "kind": kind,
            "precision": precision,
            "device": "cpu",
        }
        for (name, system), kind, precision in zip(
            LATENCY["systems"].items(), ("fairseq", "exported"), ("fp32", "int8"), strict=True
        )
    }
    timed["student"]["profile_ms"] = {"batch_1": parts}
    latency = {**LATENCY, "systems": timed}
    text = results(comparison_report("", latency=latency))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[0] == ["system", "kind", "precision", "tokens", "batch 1, ms", "p90", "vs greedy"]
    assert rows[3] == ["student", "exported", "int8", "26.0", "10.4", "20.8", "2.50x (2.25-2.75)"]
    assert "on cpu, fp32, int8, 1 thread" in text and "bootstrap interval" in text
    assert rows[-2:][1] == ["student", "1", "1.00", "2.50", "3.00", "0.50", "4.00"]
    assert "- on the CPU" not in text
    on_gpu = results(comparison_report("", latency={**latency, "device": "a GPU"}))
    assert "- on the CPU: greedy, student" in on_gpu


def test_a_report_says_whether_the_machine_was_idle() -> None:
    assert "- the machine" not in results(comparison_report("", latency=LATENCY))

    def with_steadiness(**values: float) -> str:
        return results(comparison_report("", latency={**LATENCY, "steadiness": values}))

    idle = with_steadiness(median=1.02, p90=1.1, timed_again=0)
    assert "took 1.02 times its shortest time (90th percentile 1.1; idle: about 1)" in idle
    assert "so it was busy" not in idle
    busy = with_steadiness(median=1.6, p90=2, timed_again=23)
    assert "took 1.6 times" in busy and "so it was busy, and times are not to be relied on" in busy
    assert "batches timed again because it was busy: 23" in busy


CHRF = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0"


def test_chrf_stands_beside_bleu_where_it_is_known() -> None:
    old = render_markdown(comparison_report("Title", scores=SCORES))
    assert "chrF" not in old
    scores = {name: {**each, "chrf": 55.25, "chrf_signature": CHRF} for name, each in SCORES.items()}
    text = results(comparison_report("Title", scores=scores))
    assert [cell.strip() for cell in text.splitlines()[0].split("|")[2:4]] == ["BLEU", "chrF"]
    assert "55.2" in text.splitlines()[2] and f"- chrF: sacreBLEU, `{CHRF}`" in text
    # One system from an older report.
    mixed = results(comparison_report("Title", scores={**scores, "extra": SCORES["extra"]}))
    assert "chrF" in mixed


def test_a_paired_bootstrap_stands_beside_bleu() -> None:
    test = "nrefs:1|bs:1000|seed:12345|version:2.6.0"
    names = list(SCORES)
    scores = {name: {**each, "bleu_interval": 0.84, "bleu_test": test} for name, each in SCORES.items()}
    for name in names[1:]:
        scores[name] |= {"bleu_p": 0.0123, "bleu_baseline": names[0]}
    text = results(comparison_report("Title", scores=scores))
    # By itself a system has an interval alone.
    alone = results(comparison_report("Title", scores={names[0]: scores[names[0]]}))
    assert f"BLEU is as sure as plus or minus so much: sacreBLEU's paired bootstrap, `{test}`" in alone
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:5]] == ["BLEU", "95 %", "p"]
    assert [cell.strip() for cell in lines[2].split("|")[3:5]] == ["0.8", ""]
    assert [cell.strip() for cell in lines[3].split("|")[3:5]] == ["0.8", "0.012"]
    assert (
        f"difference from {names[0]}, about half of a two-sided p: sacreBLEU's paired bootstrap, `{test}`"
        in text
    )
