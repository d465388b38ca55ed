import json
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.report import (
    build_report,
    read_scores,
    read_stages,
    render_markdown,
    results,
    without_folder,
)

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"


def score(system: str, bleu: float) -> dict[str, Any]:
    return {
        "system": system,
        "bleu": bleu,
        "signature": SIGNATURE,
        "brevity_penalty": 0.98,
        "repetition_rate": 0.02,
        "reference_repetition_rate": 0.004,
        "sentences": 500,
        "generated": "out.txt",
        "command": f"scripts/score.py --system {system}",
    }


SCORES = {name: score(name, bleu) for name, bleu in (("student", 27.31), ("greedy", 28.05), ("extra", 1.0))}
LATENCY: dict[str, Any] = {
    "systems": {
        name: {
            "latency_ms": {"batch_1": {"median": median, "p90": 2 * median}},
            "speedup": {"batch_1": {"vs_greedy": 26 / median}},
            "speedup_vs_greedy": 26 / median,
        }
        for name, median in (("greedy", 26.0), ("student", 10.4))
    },
    "baseline": "greedy",
    "beam_baseline": None,
    "sentences": 100,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "machine": {"cpu": "a processor", "cores": 2, "gpu": None},
    "command": "scripts/benchmark.py data",
}
LATENTS = {"reconstruction_bleu": 55.1, "predictor_accuracy": 0.353, "usage": 0.98, "perplexity": 25.0}


def full_report() -> dict[str, Any]:
    return build_report("Title", SCORES, LATENCY, LATENTS, {"teacher": 150.4, "student": 300.0}, None, seed=3)


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
    assert report["commands"] == [
        *(f"scripts/score.py --system {name}" for name in SCORES),
        "scripts/benchmark.py data",
    ]


def test_benchmarked_systems_come_first_and_in_their_order() -> None:
    assert list(full_report()["systems"]) == ["greedy", "student", "extra"]


def test_given_commands_replace_the_recorded_ones() -> None:
    assert build_report("", SCORES, commands=["run.sh"])["commands"] == ["run.sh"]


def test_a_report_of_nothing_still_has_its_keys() -> None:
    report = build_report("Empty")
    assert report["systems"] == {} and report["latents"] == {} and report["commands"] == []
    assert report["machine"]["cores"] >= 1
    assert "No system was scored or timed." in render_markdown(report)


def test_table_shows_what_is_known_of_each_system() -> None:
    header, _, *rows = results(full_report()).split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0] == ["system", "BLEU", "brevity", "repeats", "batch 1, ms", "p90", "vs greedy"]
    assert cells[2] == ["student", "27.3", "0.980", "2.0%", "10.4", "20.8", "2.50x"]
    assert cells[3] == ["extra", "1.0", "0.980", "2.0%", "", "", ""]


def test_columns_without_values_are_left_out() -> None:
    header = results(build_report("", latency=LATENCY)).splitlines()[0]
    assert "BLEU" not in header and "batch 1, ms" in header


def test_markdown_names_signature_machine_versions_seed_commands_and_pictures() -> None:
    text = render_markdown(full_report(), ["quality_speed.png"])
    for part in (
        "# Title\n",
        f"`{SIGNATURE}`",
        "cpu a processor",
        "seed: 3",
        "scripts/benchmark.py data",
        "![quality_speed.png](quality_speed.png)",
        "side by side on cpu, fp32, 1 thread, at least 100 sentences; greedy is greedy",
        "in the reference: 0.4%",
        "torch ",
    ):
        assert part in text
    assert "| total   |     450 |" in text
    assert "| predictor accuracy  | 0.353 |" in text


def test_different_signatures_are_all_shown() -> None:
    scores = {"a": score("a", 1), "b": {**score("b", 2), "signature": "nrefs:4|tok:13a"}}
    text = results(build_report("", scores))
    assert (
        f"BLEU of a: sacreBLEU, `{SIGNATURE}`" in text and "BLEU of b: sacreBLEU, `nrefs:4|tok:13a`" in text
    )


def test_scores_are_read_by_system(tmp_path: Path) -> None:
    for name, content in SCORES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert read_scores(tmp_path) == SCORES
    (tmp_path / "again.json").write_text(json.dumps(SCORES["student"]))
    with pytest.raises(DataError, match="second score of 'student'"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "expected a JSON object"), ('{"system": "a"}', "lacks 'bleu'")],
)
def test_broken_score_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match="no score files"):
        read_scores(tmp_path)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json: .*{message}"):
        read_scores(tmp_path)


def test_the_last_time_of_a_stage_counts(tmp_path: Path) -> None:
    path = tmp_path / "stages.tsv"
    path.write_text("teacher\t10\nstudent\t5.5\nteacher\t12\n")
    assert read_stages(path) == {"teacher": 12.0, "student": 5.5}
    path.write_text("teacher\t10\nstudent 5\n")
    with pytest.raises(DataError, match="line 2 is not"):
        read_stages(path)


def test_report_does_not_name_its_folder(tmp_path: Path) -> None:
    report = {"systems": {"a": {"checkpoints": [f"{tmp_path}/teacher.pt", "elsewhere.pt"]}}, "seed": 1}
    found = without_folder(report, tmp_path)
    assert found == {"systems": {"a": {"checkpoints": ["OUT/teacher.pt", "elsewhere.pt"]}}, "seed": 1}
