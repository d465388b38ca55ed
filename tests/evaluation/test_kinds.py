"""Systems that are no checkpoints: exported models, and models of CTranslate2."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.evaluation.kinds import check_systems, load
from vqnat_plugin.evaluation.parts import profile
from vqnat_plugin.evaluation.systems import Conditions, System, parse_system
from vqnat_plugin.models.checkpoints import Checkpoint
from vqnat_plugin.reading import read_json, read_lines

QUICK = ("--cpu", "--batch-sizes", "1", "2", "--sentences", "2", "--warmup", "0")


@pytest.fixture(scope="session")
def exported(tiny_student: Path, prenorm_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "fp32"
    words = ["export", tiny_student, "--out", out, "--precision", "fp32", "--with-teacher", prenorm_teacher]
    main([*map(str, words)])
    return out


@pytest.fixture(scope="session")
def converted(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ctranslate2")
    out = tmp_path_factory.mktemp("converted") / "fp32"
    assert main(["benchmark", "--convert", str(tiny_teacher), "--out", str(out), "--precision", "fp32"]) == 0
    return out


def translated(data: Path, path: Path, *options: str) -> list[list[int]]:
    """Tokens of the validation set, in batches of three."""
    conditions = Conditions(data, subset="valid", cpu=True)
    system = parse_system(["a", str(path), *options])
    translator = load(system, check_systems([system], conditions))
    numbers = range(len(translator.lengths))
    return [row for start in numbers[::3] for row in translator.translated(numbers[start : start + 3])]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("beam=3", "lenpen=0.5"),
        ("beam=2", "min_len=4", "max_len_a=0.5", "max_len_b=5"),
        ("max_len_b=2", "unkpen=3"),
    ],
)
def test_an_exported_model_says_what_its_checkpoint_says(
    tiny_corpus: Path, tiny_student: Path, exported: Path, options: tuple[str, ...]
) -> None:
    expected = translated(tiny_corpus, tiny_student, *options)
    assert translated(tiny_corpus, exported, *options) == expected
    candidates = [option.replace("beam", "candidates") for option in options]
    assert translated(tiny_corpus, exported, *candidates) == expected


@pytest.mark.parametrize("options", [("max_len_b=20",), ("min_len=4", "max_len_a=0.5", "max_len_b=3")])
def test_ctranslate2_says_what_fairseq_says(
    tiny_corpus: Path, tiny_teacher: Path, converted: Path, options: tuple[str, ...]
) -> None:
    found = translated(tiny_corpus, converted, *options)
    assert found == translated(tiny_corpus, tiny_teacher, *options)
    assert all(row[-1] == 2 and 2 not in row[:-1] for row in found)


@pytest.mark.parametrize("lenpen", [0, 0.5, 2])
def test_with_a_beam_too_where_no_hypothesis_is_cut_off(
    tiny_corpus: Path, tiny_teacher: Path, converted: Path, lenpen: float
) -> None:
    options, limit = ("beam=3", f"lenpen={lenpen}", "max_len_b=20"), 20
    both = [translated(tiny_corpus, path, *options) for path in (tiny_teacher, converted)]
    score = scorer(tiny_teacher, lenpen)
    compared = 0
    for number, (one, other) in enumerate(zip(*both, strict=True)):
        if max(len(one), len(other)) <= limit:
            compared += 1
            # fairseq stops when as many hypotheses as the beam is wide have ended, CTranslate2 may go on.
            assert one == other or score(number, other) > score(number, one)
    assert compared >= 4


def scorer(teacher: Path, lenpen: float) -> Callable[[int, list[int]], float]:
    """What the teacher thinks of a translation of a sentence of the validation set."""
    model, _, task = Checkpoint(teacher).build()
    task.load_dataset("valid")

    def score(number: int, tokens: list[int]) -> float:
        source, target = task.datasets["valid"][number]["source"][None], torch.tensor([tokens])
        before = target.roll(1, 1)
        before[:, 0] = task.target_dictionary.eos()
        found = model.get_normalized_probs(model(source, torch.tensor([source.size(1)]), before), True)
        return float(found.gather(-1, target[..., None]).sum()) / len(tokens) ** lenpen

    return score


def test_all_kinds_are_compared_and_profiled(
    tiny_corpus: Path,
    tiny_teacher: Path,
    tiny_student: Path,
    exported: Path,
    converted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference, out = tiny_corpus.parent / "text" / "test.de", tmp_path / "out"
    words = ["compare", tiny_corpus, "--ref", reference, "--out", out, *QUICK, "--tokenizer", "space"]
    words += ["--system", "teacher", tiny_teacher, "--system", "student", tiny_student, "--profile"]
    words += ["--system", "exported", exported, "--system", "converted", converted]
    words += ["--baseline", "converted", "--baseline", "teacher", "--max-len-b", 12]
    assert main([*map(str, words)]) == 0
    report = read_json(out / "report.json")
    systems = report["systems"]
    kinds = {name: (system["kind"], system["precision"]) for name, system in systems.items()}
    assert kinds == {
        "teacher": ("fairseq", "fp32"),
        "student": ("fairseq", "fp32"),
        "exported": ("exported", "fp32"),
        "converted": ("CTranslate2", "fp32"),
    }
    decoded = {name: read_lines(out / "decoded" / f"{name}.txt") for name in systems}
    assert decoded["exported"] == decoded["student"] and decoded["converted"] == decoded["teacher"]
    for one, other in (("exported", "student"), ("converted", "teacher")):
        assert systems[one]["mean_output_tokens"] == systems[other]["mean_output_tokens"]
        assert systems[one]["bleu"] == systems[other]["bleu"]
    assert report["latency"]["baselines"] == ["converted", "teacher"]
    assert set(systems["exported"]["ratios"]["batch_2"]) == {"converted", "teacher"}
    assert systems["converted"]["speedup_vs_greedy"] == 1
    parts = systems["exported"]["profile_ms"]
    assert list(parts) == ["batch_1", "batch_2"] and "profile_ms" not in systems["student"]
    assert parts["batch_1"]["steps"] > 1 and "reconstruction_bleu" in report["latents"]
    assert (out / "quality_speed.png").is_file() and "latent steps" in (out / "report.md").read_text()

    # Another model in the same folder is another system.
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().err.count("delete it to measure anew") == 6
    copy = shutil.copytree(converted, tmp_path / "copy")
    words[words.index(converted)] = copy
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().err.count("delete it to measure anew") == 6
    (copy / "more").write_text("x")
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().err.count("delete it to measure anew") == 4


def test_systems_of_one_folder_share_its_engine(tiny_corpus: Path, exported: Path, converted: Path) -> None:
    for folder in (exported, converted):
        systems = [parse_system([f"beam{beam}", str(folder), f"beam={beam}"]) for beam in (1, 2)]
        conditions = check_systems(systems, Conditions(tiny_corpus, cpu=True))
        one, other = (load(system, conditions, threads=1) for system in systems)
        assert one.engine is other.engine  # type: ignore[attr-defined]
        assert load(systems[0], conditions, threads=2).engine is not one.engine  # type: ignore[attr-defined]


def test_a_teacher_ranks_as_it_does_in_fairseq(
    tiny_corpus: Path, tiny_student: Path, prenorm_teacher: Path, exported: Path
) -> None:
    expected = translated(tiny_corpus, tiny_student, "beam=3", f"rescore_with={prenorm_teacher}")
    assert translated(tiny_corpus, exported, "beam=3", "rescore=True") == expected
    system = parse_system(["a", str(exported), "beam=3", "rescore=True"])
    translator = load(system, check_systems([system], Conditions(tiny_corpus, cpu=True)))
    assert profile(translator, [[0, 1, 2, 3, 4]], warmup=0)["teacher"] > 0


def test_a_profile_has_all_parts(tiny_corpus: Path, exported: Path) -> None:
    system = parse_system(["a", str(exported), "beam=2"])
    translator: Any = load(system, check_systems([system], Conditions(tiny_corpus, cpu=True)))
    graphs = translator.engine.graphs
    assert profile(translator, [[0, 1], [2, 3]], warmup=20)["steps"] > 0
    parts = profile(translator, [[0, 1], [2, 3]], warmup=1)
    assert list(parts) == ["encoder", "latent steps", "writer", "teacher", "rest", "steps"]
    assert parts.pop("teacher") == 0 and all(value > 0 for value in parts.values())
    assert translator.engine.graphs is graphs


@pytest.fixture
def refused(tiny_corpus: Path) -> Callable[..., str]:
    def run(path: Path, *options: str, data: Path = tiny_corpus, **conditions: str) -> str:
        with pytest.raises((DataError, UsageError)) as error:
            check_systems([parse_system(["a", str(path), *options])], Conditions(data, **conditions))
        assert str(error.value).startswith("system a: ")
        return str(error.value)

    return run


@pytest.fixture
def other_data(tiny_corpus: Path, tmp_path: Path) -> Path:
    """The corpus with another dictionary."""
    data = shutil.copytree(tiny_corpus, tmp_path / "data")
    for language in ("en", "de"):
        path = data / f"dict.{language}.txt"
        path.write_text("\n".join(reversed(path.read_text().split("\n")[:-1])) + "\n")
    return data


def test_folders_that_cannot_be_a_system_are_one_line(
    refused: Callable[..., str], tiny_teacher: Path, exported: Path, other_data: Path, tmp_path: Path
) -> None:
    assert "'vqnat export' nor of 'vqnat benchmark --convert'" in refused(tiny_teacher.parent)
    with pytest.raises(DataError, match="is a folder; an ensemble"):
        check_systems([System("a", (str(tiny_teacher), str(exported)))], Conditions(tmp_path))
    assert "has other source symbols than the data" in refused(exported, data=other_data)
    assert "translates en-de, but" in refused(exported, source_lang="de", target_lang="en")
    assert "does not know 'prefix_size', but beam, candidates, lenpen" in refused(exported, "prefix_size=2")
    assert "lenpen=much: needs a number" in refused(exported, "lenpen=much")
    assert "candidates=0.5: needs a whole number" in refused(exported, "candidates=0.5")
    assert "needs --max-len-b" in refused(exported, "min_len=7", "max_len_b=5")
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    (damaged / "writer.onnx").write_bytes(b"x")
    assert "writer.onnx: is not the file that was exported" in refused(damaged)


def test_folders_of_ctranslate2_that_cannot_be_a_system_are_one_line(
    refused: Callable[..., str], converted: Path, other_data: Path, tmp_path: Path
) -> None:
    assert "has other source symbols than the data" in refused(converted, data=other_data)
    known = "a model of CTranslate2 does not know 'rescore', but beam, lenpen"
    assert known in refused(converted, "rescore=True")
    assert "needs a max_len_b of as much" in refused(converted, "min_len=7", "max_len_b=5")
    damaged = shutil.copytree(converted, tmp_path / "damaged")
    (damaged / "model.bin").write_bytes((damaged / "model.bin").read_bytes()[:5000])
    assert "damaged: CTranslate2 cannot read it" in refused(damaged)
    (damaged / "model.bin").unlink()
    assert "damaged: CTranslate2 cannot read it" in refused(damaged)


def test_a_sentence_that_is_too_long_for_ctranslate2_is_one_line(
    tiny_corpus: Path, converted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # More than the teacher's table of positions has.
    words = ["benchmark", tiny_corpus, "--out", tmp_path / "out", *QUICK, "--min-len", 3000]
    words += ["--max-len-b", 3000, "--system", "a", converted]
    with pytest.raises(SystemExit):
        main([*map(str, words)])
    assert "system a: CTranslate2 cannot translate a batch" in capsys.readouterr().err


def one_line(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_conversion_is_refused_in_one_line(
    tiny_corpus: Path,
    tiny_teacher: Path,
    tiny_student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ctranslate2")
    out = tmp_path / "out"
    convert = ("benchmark", "--out", out, "--convert")
    assert "is no autoregressive model" in one_line(capsys, *convert, tiny_student)
    assert "no such file" in one_line(capsys, *convert, tmp_path / "gone.pt")
    line = one_line(capsys, *convert, tiny_teacher, "--system", "a", "b")
    assert "leave --system out" in line
    assert "has no dict.en.txt" in one_line(capsys, "benchmark", tmp_path, *convert[1:], tiny_teacher)
    assert not out.exists()
    out.mkdir()
    (out / "precious").touch()
    assert "name a new folder" in one_line(capsys, *convert, tiny_teacher)
    assert [path.name for path in out.iterdir()] == ["precious"]


def test_conversion_replaces_a_model_and_is_in_int8_by_default(
    tiny_teacher: Path, converted: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(converted, tmp_path / "out"))
    assert main(["benchmark", "--convert", str(tiny_teacher.parent), "--out", str(out)]) == 0
    sizes = [(folder / "model.bin").stat().st_size for folder in (out, converted)]
    assert sizes[0] < sizes[1]
    assert json.loads((out / "shared_vocabulary.json").read_text())[1] == "<blank>"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_a_benchmark_needs(
    tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "out")
    assert "needs DATA_BIN and a --system" in one_line(capsys, "benchmark", *out)
    assert "needs DATA_BIN and a --system" in one_line(capsys, "benchmark", tiny_corpus, *out)
    words = ("benchmark", tiny_corpus, *out, *QUICK, "--system", "a", tiny_teacher, "--profile")
    assert "--profile: shows the parts of exported models" in one_line(capsys, *words)


def test_a_missing_engine_is_named_with_what_installs_it(
    tiny_corpus: Path, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "vqnat_plugin.evaluation.ctranslate2_translator", raising=False)
    words = ("benchmark", tiny_corpus, "--out", tmp_path / "out", "--system", "a", converted)
    said = "needs ctranslate2, which is not installed: pip install '.[bench]' where the source is"
    assert said in one_line(capsys, *words)
