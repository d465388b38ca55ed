"""`vqnat compare` and `vqnat benchmark`, run in this process: importing fairseq anew takes seconds."""

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vqnat_plugin import evaluation
from vqnat_plugin.commands.main import main
from vqnat_plugin.evaluation import fairseq_translator, plots
from vqnat_plugin.evaluation.fairseq_translator import FairseqTranslator
from vqnat_plugin.evaluation.steadiness import FixedWork
from vqnat_plugin.files import write_json
from vqnat_plugin.reading import read_json, read_lines

QUICK = ("--cpu", "--batch-sizes", "1", "2", "--sentences", "2", "--warmup", "0", "--tokenizer", "space")


@pytest.fixture
def reference(tiny_corpus: Path) -> Path:
    return tiny_corpus.parent / "text" / "test.de"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What happens to systems: 'open' and 'decode' with their declaration."""
    events: list[tuple[str, dict[str, Any]]] = []

    class Watched(FairseqTranslator):
        def __init__(self, system: Any, conditions: Any, threads: int) -> None:
            super().__init__(system, conditions)
            self.declared = {"name": system.name, **system.as_dict()}
            events.append(("open", self.declared))

        def decode(self, *arguments: Any) -> list[str]:
            events.append(("decode", self.declared))
            return super().decode(*arguments)

    monkeypatch.setattr(fairseq_translator, "load", Watched)
    yield events


def compare(data: Path, reference: Path, out: Path, *words: object) -> dict[str, Any]:
    assert main(["compare", *map(str, (data, "--ref", reference, "--out", out, *QUICK, *words))]) == 0
    return read_json(out / "report.json")


def decoded(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [declared["name"] for what, declared in events if what == "decode"]


def one_line(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on stderr of a command that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_systems_are_decoded_scored_timed_and_reported_as_declared(
    tiny_corpus: Path,
    tiny_teacher: Path,
    tiny_student: Path,
    reference: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    opened: list[tuple[str, dict[str, Any]]],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    teacher = shutil.copy(tiny_teacher, out / "teacher.pt")
    (tmp_path / "train.log").write_text(
        '{"loss": "2", "num_updates": "10"}\n{"loss": "1", "num_updates": "20"}\n'
    )
    threads = torch.get_num_threads()
    report = compare(
        *(tiny_corpus, reference, out, "--title", "A title", "--baseline", "greedy"),
        *("--system", "beam", teacher, "beam=2", "--system", "greedy", teacher),
        *("--system", "short", tiny_student, "beam=3", "lenpen=2", "max_len_b=1"),
        *("--system", "rescored", tiny_student, "beam=2", f"rescore_with={teacher}"),
        *("--max-len-a", 1.5, "--max-len-b", 10),
        *("--train-log", f"teacher={tmp_path / 'train.log'}", "--train-log", "student=gone.log"),
    )
    assert torch.get_num_threads() == threads

    files = {path.name for path in out.iterdir()} - {"teacher.pt"}
    assert files == {
        *("decoded", "latency.json", "latents.json", "report.json", "report.md"),
        *("quality_speed.png", "training.png"),
    }
    systems = report["systems"]
    assert list(systems) == ["beam", "greedy", "short", "rescored"]
    shared = {"max_len_a": 1.5, "max_len_b": 10}
    student = str(tiny_student)
    assert {name: system["options"] for name, system in systems.items()} == {
        "beam": {"checkpoints": ["OUT/teacher.pt"], "beam": 2, **shared},
        "greedy": {"checkpoints": ["OUT/teacher.pt"], "beam": 1, **shared},
        "short": {"checkpoints": [student], "beam": 3, "max_len_a": 1.5, "max_len_b": 1, "lenpen": 2},
        "rescored": {"checkpoints": [student], "beam": 2, **shared, "rescore_with": "OUT/teacher.pt"},
    }
    # What is recorded is what decoded and what was timed.
    recorded = [{"name": name, **system["options"]} for name, system in systems.items()]
    masked = json.loads(json.dumps(opened).replace(str(out), "OUT"))
    events = [["open", each] for each in recorded]
    assert masked == [*(pair for each in recorded for pair in (["open", each], ["decode", each])), *events]
    # And it is heeded: at most source tokens * 1.5 + 1 words, with fairseq's rounding.
    lengths = [len(line.split()) + 1 for line in read_lines(reference.with_suffix(".en"))]
    words = [len(line.split()) for line in read_lines(out / "decoded" / "short.txt")]
    assert all(found <= 1.5 * length + 1 for found, length in zip(words, lengths, strict=True))

    assert systems["greedy"]["speedup_vs_greedy"] == 1 and report["latency"]["beam_baseline"] == "beam"
    assert {"bleu", "signature", "brevity_penalty", "speedup"} <= set(systems["short"])
    assert set(systems["short"]["latency_ms"]) == {"batch_1", "batch_2"}
    assert {"reconstruction_bleu", "predictor_accuracy", "usage"} <= set(report["latents"])
    assert list(report["stages"]) == [*(f"decode {name}" for name in systems), "latents", "benchmark"]
    (command,) = report["commands"]
    assert command.startswith("vqnat compare DATA --system beam OUT/teacher.pt beam=2 --system greedy ")
    assert "rescore_with=OUT/teacher.pt" in command and " --out OUT " in command
    assert report["seed"] == 1 and report["title"] == "A title"
    table, notes = capsys.readouterr()
    assert "--train-log student=gone.log: no such file; not drawn" in notes
    assert table.splitlines()[0] in (out / "report.md").read_text()
    assert "- rescored: `" in (out / "report.md").read_text()


def test_decoding_is_that_of_fairseq_generate(
    tiny_corpus: Path, tiny_student: Path, reference: Path, tmp_path: Path
) -> None:
    from fairseq import options
    from fairseq_cli import generate

    from vqnat_plugin.evaluation.generated import read_generated

    flags = f"{tiny_corpus} --path {tiny_student} --task translation_vq --results-path {tmp_path} --cpu"
    flags += (
        " --batch-size 2 --required-batch-size-multiple 1 --beam 3 --lenpen 2 --remove-bpe --tokenizer space"
    )
    parser = options.get_generation_parser()
    generate.main(options.parse_args_and_arch(parser, flags.split()))
    words = ("--system", "student", tiny_student, "beam=3", "lenpen=2", "--batch-size", 2)
    compare(tiny_corpus, reference, tmp_path / "out", *words)
    found = read_lines(tmp_path / "out" / "decoded" / "student.txt")
    assert found == read_generated(tmp_path / "generate-test.txt")


def test_the_same_command_goes_on_and_what_changed_is_decoded_anew(
    tiny_corpus: Path,
    tiny_teacher: Path,
    reference: Path,
    tmp_path: Path,
    opened: list[tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plots, "draw", lambda *_: [])
    checkpoint = Path(shutil.copy(tiny_teacher, tmp_path / "a.pt"))
    greedy, beam = ("--system", "greedy", checkpoint), ("--system", "beam", checkpoint, "beam=2")

    def run(*words: object) -> dict[str, Any]:
        opened.clear()
        return compare(tiny_corpus, reference, tmp_path / "out", *words)

    # Killed while the second system decodes.
    whole = fairseq_translator.load

    def killed(system: Any, conditions: Any, threads: int) -> Any:
        if system.name == "beam":
            raise RuntimeError("killed")
        return whole(system, conditions, threads)

    monkeypatch.setattr(fairseq_translator, "load", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(*greedy, *beam)
    monkeypatch.setattr(fairseq_translator, "load", whole)
    first = run(*greedy, *beam)
    assert decoded(opened) == ["beam"]

    again = run(*greedy, *beam)
    assert opened == []
    assert again == first

    # A checkpoint may move; another baseline is another reading of the same measurement.
    moved = checkpoint.rename(tmp_path / "b.pt")
    greedy, beam = ("--system", "greedy", moved), ("--system", "beam", moved, "beam=2")
    run(*greedy, *beam, "--baseline", "beam")
    assert opened == []

    run(*greedy, *beam, "lenpen=0.5")
    assert decoded(opened) == ["beam"]
    assert [declared["name"] for what, declared in opened[2:]] == ["greedy", "beam"], "all are timed together"

    # Neither another checkpoint of the same name nor a text that was changed since is taken for the same.
    state = torch.load(moved, weights_only=False)
    torch.save({**state, "more": 1}, moved)
    (tmp_path / "out" / "decoded" / "greedy.txt").write_text("a\n" * 5)
    run(*greedy)
    assert decoded(opened) == ["greedy"]
    (tmp_path / "out" / "decoded" / "greedy.json").write_text("{")
    run(*greedy)
    assert decoded(opened) == ["greedy"]
    run(*greedy, "--sentences", 3)
    assert opened and not decoded(opened)


@pytest.mark.parametrize("name", ["a|b <script>x</script>\n$x$", "../up", 'o\'clock "%d" [1] %2F'])
def test_names_and_folders_may_be_anything(
    tiny_corpus: Path, tiny_teacher: Path, reference: Path, tmp_path: Path, name: str
) -> None:
    home = tmp_path / 'it\'s [a] "b" | c\nd'
    out = home / "out $x$ %s"
    shutil.copytree(tiny_corpus, home / "data")
    shutil.copy(tiny_teacher, home / "teacher.pt")
    words = ("--system", name, home / "teacher.pt", "--title", name)
    report = compare(home / "data", reference, out, *words)
    assert list(report["systems"]) == [name]
    assert report["systems"][name]["options"]["checkpoints"] == [str(home / "teacher.pt")]
    assert {path.name for path in home.iterdir()} == {"data", "teacher.pt", out.name}
    assert len(list((out / "decoded").iterdir())) == 2
    text = (out / "report.md").read_text()
    header, rule, row, blank = text.splitlines()[2:6]
    assert blank == ""
    assert len({line.replace(r"\|", "").count("|") for line in (header, rule, row)}) == 1
    assert "<script>" not in text.partition("```")[0].replace("`", "")


def test_a_benchmark_needs_no_references(
    tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "benchmark",
        tiny_corpus,
        "--out",
        tmp_path / "out",
        *QUICK[:-2],
        "--min-len",
        3,
        "--max-len-b",
        3,
    ]
    words += ["--system", "greedy", tiny_teacher, "--system", "beam3", tiny_teacher, "beam=3", "lenpen=0.6"]
    assert main([*map(str, words)]) == 0
    names = ["latency.json", "report.json", "report.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    report = read_json(tmp_path / "out" / "report.json")
    latency, systems = report["latency"], report["systems"]
    assert latency["baseline"] == "greedy" and latency["beam_baseline"] == "beam3"
    assert latency["device"] == "cpu"
    greedy, beam = systems["greedy"], systems["beam3"]
    assert set(greedy["latency_ms"]) == {"batch_1", "batch_2"}
    assert greedy["speedup_vs_greedy"] == 1 and beam["speedup_vs_beam"] == 1
    assert greedy["mean_output_tokens"] == 4
    assert all(0 < timing["median"] <= timing["p90"] for timing in beam["latency_ms"].values())
    assert greedy["kind"] == "fairseq" and greedy["precision"] == "fp32" and greedy["device"] == "cpu"
    assert latency["baselines"] == ["greedy"] and latency["batch_sizes"] == [1, 2]
    interval = beam["ratios"]["batch_2"]["greedy"]
    assert interval["low"] <= interval["ratio"] == beam["speedup"]["batch_2"]["vs_greedy"] <= interval["high"]
    options = {"checkpoints": [str(tiny_teacher)], "beam": 3, "max_len_b": 3, "min_len": 3, "lenpen": 0.6}
    assert beam["options"] == options
    assert report["commands"][0].startswith("vqnat benchmark DATA --system greedy")
    before = (tmp_path / "out" / "latency.json").read_text()
    assert "delete it to measure anew" not in capsys.readouterr().err
    assert main([*map(str, words)]) == 0
    assert "delete it to measure anew" in capsys.readouterr().err
    assert (tmp_path / "out" / "latency.json").read_text() == before


def test_times_of_a_busy_machine_are_not_taken_for_others(
    tiny_corpus: Path,
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = itertools.chain([1.0], itertools.repeat(2.0))

    def sample(self: FixedWork) -> float:
        seconds = next(work)
        self.shortest = min(self.shortest, seconds)
        return seconds

    monkeypatch.setattr(FixedWork, "sample", sample)
    out = tmp_path / "out"
    words = ["benchmark", tiny_corpus, "--out", out, *QUICK[:-2], "--system", "greedy", tiny_teacher]
    # All batches but the first, of both sizes, twice more in vain.
    slow = {"median": 2, "p90": 2, "timed_again": 38}
    # The second time from what was kept.
    for _ in range(2):
        assert main([*map(str, words)]) == 0
        told = capsys.readouterr()
        assert "the machine was busy" in told.err and f"delete {out / 'latency.json'} to measure" in told.err
        assert "so it was busy" in told.out and "so it was busy" in (out / "report.md").read_text()
        assert read_json(out / "report.json")["latency"]["steadiness"] == slow
    kept = read_json(out / "latency.json")
    work = itertools.repeat(1.0)
    for damage in ({"work": []}, {"work": [0.0]}, {"work": ["1"]}, {"work": None}, {"timed_again": None}):
        write_json(out / "latency.json", {**kept, **damage})
        assert main([*map(str, words)]) == 0
        assert "busy" not in capsys.readouterr().err
        assert read_json(out / "report.json")["latency"]["steadiness"] == {
            "median": 1,
            "p90": 1,
            "timed_again": 0,
        }


def test_stages_of_the_same_folder_are_reported_but_not_the_comparison_itself(
    tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqnat_plugin.recipes.stages import Stages

    monkeypatch.setattr("vqnat_plugin.recipes.stages.executable", lambda command: ["true"])
    out = tmp_path / "out"
    words = ["vqnat", "benchmark", str(tiny_corpus), "--out", str(out), *QUICK[:-2]]
    words += ["--system", "greedy", str(tiny_teacher)]
    Stages(out).run("first", ["python", "-c", "pass"], quiet=True)
    assert main(words[1:]) == 0
    first = read_json(out / "report.json")
    assert list(first["stages"]) == ["first", "benchmark"]
    assert first["commands"][0] == "python -c pass" and len(first["commands"]) == 2
    Stages(out).run("timing", words, quiet=True)
    assert main(words[1:]) == 0
    again = read_json(out / "report.json")
    assert again["commands"] == first["commands"] and again["stages"] == first["stages"]
    # A conversion is the same program, but none that reports.
    Stages(out).run("converted", ["vqnat", "benchmark", "--convert", "a.pt", "--out", "b"], quiet=True)
    assert main(words[1:]) == 0
    assert list(read_json(out / "report.json")["stages"]) == ["first", "converted", "benchmark"]
    # A second report, in a folder of the recipe's.
    monkeypatch.chdir(tmp_path)
    for inside in (out / "inside", Path("out/inside")):
        assert main(["benchmark", str(tiny_corpus), "--out", str(inside), *words[5:]]) == 0
        report = read_json(out / "inside" / "report.json")
        assert report["commands"][0] == "python -c pass" and "--out OUT/inside" in report["commands"][-1]
        assert list(report["stages"]) == ["first", "converted", "benchmark"]


@pytest.fixture
def refused(
    tiny_corpus: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The line with which `vqnat compare` refuses a system; nothing is written."""

    def run(
        *system: object, data: Path = tiny_corpus, ref: Path = reference, more: tuple[object, ...] = ()
    ) -> str:
        out = tmp_path / "out"
        line = one_line(
            capsys, "compare", data, "--ref", ref, "--out", out, *QUICK, "--system", *system, *more
        )
        assert not out.exists()
        return line

    return run


def test_what_cannot_be_a_system_is_refused_before_anything_is_decoded(
    refused: Callable[..., str],
    tiny_teacher: Path,
    tiny_student: Path,
    image_autoencoder: Path,
    tmp_path: Path,
) -> None:
    assert "system a: no checkpoint none.pt" in refused("a", "none.pt")
    assert "knows 'rescore_wiht'" in refused("a", tiny_teacher, "rescore_wiht=b.pt")
    assert "knows 'rescore_with'" in refused("a", tiny_teacher, f"rescore_with={tiny_teacher}")
    assert "lenpen" in refused("a", tiny_teacher, "lenpen=much")
    assert "prefix_size is not supported" in refused("a", tiny_teacher, "prefix_size=2")
    assert "system a: no checkpoint gone.pt" in refused("a", tiny_student, "rescore_with=gone.pt")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(tiny_student.read_bytes()[:-3000])
    assert "damaged.pt: truncated, or not a checkpoint" in refused("a", damaged)
    assert "damaged.pt: truncated" in refused("a", tiny_student, f"rescore_with={damaged}")
    line = refused("a", image_autoencoder)
    assert "is no translation model, but was trained with --task image_vq" in line
    line = refused("b", tiny_student, f"rescore_with={image_autoencoder}")
    assert "system b: rescore_with: " in line and "--task image_vq" in line
    line = refused("b", tiny_student, "beam=2", f"rescore_with={tiny_student}")
    assert "is no autoregressive model" in line
    assert "--gen-subset test7: not in" in refused("a", tiny_teacher, more=("--gen-subset", "test7"))
    line = refused("a", tiny_teacher, more=("--source-lang", "de", "--target-lang", "en"))
    assert "translates en-de, but" in line and "is to be read as de-en" in line


def test_another_dictionary_is_refused(
    refused: Callable[..., str], tiny_corpus: Path, tiny_teacher: Path, tiny_student: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_corpus, data)
    for language in ("en", "de"):
        words = read_lines(data / f"dict.{language}.txt")
        (data / f"dict.{language}.txt").write_text("\n".join(reversed(words)) + "\n")
    assert "has other symbols than" in refused("a", tiny_teacher, data=data)
    assert "has other symbols than" in refused("a", tiny_student, data=data)

    # Where the data of its training are gone the sizes still tell.
    state = torch.load(tiny_teacher, weights_only=False)
    state["cfg"]["task"]["data"] = "gone"
    torch.save(state, tmp_path / "teacher.pt")
    for language in ("en", "de"):
        (data / f"dict.{language}.txt").write_text("\n".join(words[:9]) + "\n")
    line = refused("a", tmp_path / "teacher.pt", data=data)
    assert "teacher.pt: cannot be rebuilt" in line and "it knows 48 symbols" in line
    for language in ("en", "de"):
        (data / f"dict.{language}.txt").unlink()
    assert "has no dict.en.txt" in refused("a", tmp_path / "teacher.pt", data=data)


def test_references_are_those_of_the_subset(
    refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path, reference: Path
) -> None:
    other = tmp_path / "other.de"
    other.write_text("x\n" * 4)
    line = refused("a", tiny_teacher, ref=other)
    assert "--ref: 4 lines, but 'test' in" in line and "has 5 sentences" in line
    assert "4 lines, but" in refused("a", tiny_teacher, more=("--ref", reference, other))
    other.write_text("")
    assert "--ref: 0 lines, but 'test' in" in refused("a", tiny_teacher, ref=other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--system", "a"), "--system a: needs the form NAME PATH [OPTION=VALUE ...]"),
        (("--system", "a", "b.pt", "beam"), "'beam' needs the form OPTION=VALUE"),
        (("--system", "a", "b.pt", "--system", "a", "c.pt"), "each needs a name of its own"),
        (("--system", "a", "b.pt", "--baseline", "b"), "--baseline b: not among the systems (a)"),
        (("--system", "a", "b.pt", "--threads", "0"), "--threads 0: needs at least 1"),
        (("--system", "a", "b.pt", "--fp16", "--bf16"), "only one of them"),
        (("--system", "a", "b.pt", "--batch-sizes", "1", "1"), "--batch-sizes 1 1"),
        (
            ("--system", "a", "b.pt", "--train-log", "student"),
            "--train-log student: needs the form NAME=FILE",
        ),
        (("--system", "a", "b.pt", "--train-log", "a=b", "--train-log", "a=c"), "a second file of 'a'"),
        ((), "--system"),
    ],
)
def test_mistakes_end_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, words: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    assert message in one_line(capsys, "compare", tmp_path, "--ref", reference, "--out", out, *words)
    assert not out.exists()


def test_a_missing_package_shows_before_anything_is_decoded(
    refused: Callable[..., str], tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "vqnat_plugin.evaluation.plots")
    monkeypatch.delattr(evaluation, "plots")
    line = refused("a", tiny_teacher)
    assert "needs matplotlib, which is not installed: pip install '.[plots]' where the source is" in line
