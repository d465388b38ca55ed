"""`vqnat export`: a whole folder or none, and what it says of itself."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import assert_same, by_torch, exported, random_teacher
from tiny import sentences, tiny_model, train_student

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.export import comparison, run
from vqnat_plugin.export.comparison import describe
from vqnat_plugin.export.data import usual_length, validation_pairs
from vqnat_plugin.export.graph import FLOAT, MOST_WEIGHT, Graph, quantize_rows
from vqnat_plugin.export.run import export
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.reading import read_json, sha256
from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.sessions import open_session
from vqnat_plugin.runtime.translator import Translator

FILES = {"config.json", "encoder.onnx", "step.onnx", "writer.onnx", "dict.source.txt", "dict.target.txt"}


def test_exported_and_checkpoint_are_compared(
    tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "exported"
    main(["export", str(tiny_student.parent), "--out", str(out), "--precision", "fp32"])
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["exported"]
    config = read_json(out / "config.json")
    assert config["checkpoint"] == {"name": tiny_student.name, "sha256": sha256(tiny_student)}
    assert config["model"]["embed_dim"] == 32 and config["precision"] == "fp32"
    compared = config["comparison"]
    assert compared["sentences"] == 8 and compared["identical"] == 1
    assert compared["bleu"]["exported"] == compared["bleu"]["checkpoint"]
    assert compared["score_difference"] < 1e-5
    shown = capsys.readouterr().out
    assert "8 sentences of the validation set: 100.0 % identical" in shown and "warning" not in shown
    assert re.search(r"exported: fp32, 0\.\d MiB \((\w+ 0\.\d, ){3}text 0\.0\)\n", shown)
    # Another one takes its place.
    main(["export", str(tiny_student), "--out", str(out)])
    assert read_json(out / "config.json")["precision"] == "int8"
    assert len(Translator(out).translate(["w1 w2 w3"])[0].split()) > 0


def test_a_tokeniser_that_is_not_installed_is_no_reason_to_export_nothing(
    tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(tokenize: str) -> None:
        raise UsageError(f"sacreBLEU's tokeniser {tokenize} cannot be used here")

    monkeypatch.setattr(comparison, "bleu_metric", missing)
    main(["export", str(tiny_student), "--out", str(tmp_path / "out")])
    assert read_json(tmp_path / "out" / "config.json")["comparison"]["tokenize"] == "char"
    assert "% identical, BLEU by characters " in capsys.readouterr().out


def test_data_without_a_validation_set_will_do(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in tiny_corpus.glob("dict.*.txt"):
        (data / path.name).write_bytes(path.read_bytes())
    words = ["export", str(tiny_student), "--out", str(tmp_path / "out"), "--data", str(data)]
    main([*words, "--source-lang", "en", "--target-lang", "de"])
    assert "not compared with the checkpoint: no validation set" in capsys.readouterr().out
    config = read_json(tmp_path / "out" / "config.json")
    assert config["comparison"] is None and config["usual_source_tokens"] is None


def test_the_usual_length_is_that_of_nearly_all_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = torch.tensor([5] * 1998 + [9] * 2 + [700])
    monkeypatch.setattr("vqnat_plugin.export.data._sides", lambda *_: (Lengths(lengths), None))
    assert usual_length(None) == 9
    monkeypatch.setattr("vqnat_plugin.export.data._sides", lambda *_: (Lengths(lengths[:0]), None))
    assert usual_length(None) is None


class Lengths:
    """A data set of which only the lengths are looked at."""

    def __init__(self, lengths: torch.Tensor) -> None:
        self.sizes = lengths.numpy()

    def __len__(self) -> int:
        return len(self.sizes)


def test_data_of_the_other_direction_are_compared_on(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    hub = VQNAT.from_pretrained(tiny_student)
    pairs, usual = validation_pairs(hub), usual_length(hub)
    assert pairs and usual
    data = tmp_path / "data"
    data.mkdir()
    for path in tiny_corpus.iterdir():
        shutil.copyfile(path, data / path.name.replace(".en-de.", ".de-en."))
    hub.task.cfg.data = str(data)
    assert [[side.tolist() for side in pair] for pair in validation_pairs(hub)] == [
        [side.tolist() for side in pair] for pair in pairs
    ]
    assert usual_length(hub) == usual
    for kind in ("bin", "idx"):
        shutil.copyfile(tiny_corpus / f"train.en-de.de.{kind}", data / f"valid.de-en.de.{kind}")
    with pytest.raises(DataError, match=r"valid\.de-en\.\*: sentences are 8 in en and \d+ in de"):
        validation_pairs(hub)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_teacher_goes_in(
    precision: str,
    tiny_student: Path,
    prenorm_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["export", str(tiny_student), "--out", str(tmp_path / "out"), "--precision", precision]
    main([*words, "--with-teacher", str(prenorm_teacher.parent)])
    config = read_json(tmp_path / "out" / "config.json")
    origin = {"name": prenorm_teacher.name, "sha256": sha256(prenorm_teacher)}
    assert config["teacher"] == {**origin, "max_target_positions": 1024}
    rescored = config["comparison"]["rescored"]
    shown, told = capsys.readouterr()
    assert "teacher 0." in shown and "the best of 4 by the teacher's score: " in shown
    told = re.findall(r"^vqnat export: (\w+)", told, re.M)
    assert told == ["writing", "writing", "translating", "translating"]
    if precision == "fp32":
        assert rescored["identical"] == 1 and rescored["score_difference"] < 1e-4
    # Without it, the next one has none.
    main(words)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert read_json(tmp_path / "out" / "config.json")["teacher"] is None


def test_an_average_of_checkpoints_can_be_exported(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    other = train_student(tiny_corpus, tmp_path / "other", "--max-update=5")
    average = tmp_path / "average.pt"
    main(["average", "--inputs", str(tiny_student), str(other), "--output", str(average)])
    config = export(average, tmp_path / "out", "fp32")
    assert config["comparison"]["identical"] == 1 and config["checkpoint"]["name"] == "average.pt"


def test_files_of_others_are_not_deleted(tiny_student: Path, tmp_path: Path) -> None:
    export(tiny_student, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"'notes\.txt' in it is no part of an exported model"):
        export(tiny_student, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_there_is_a_whole_folder_or_none(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(tiny_student, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_line(
    tiny_student: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["export", *map(str, words)])
        [line] = capsys.readouterr().err.splitlines()
        return line

    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "config.json").write_text('{"model_type": "bert"}')
    line = complaint(tiny_student, "--out", tmp_path / "used")
    assert "used: is not empty, and no exported model" in line
    assert "is a file, needs a folder" in complaint(tiny_student, "--out", tmp_path / "used" / "config.json")
    assert "is no latent translation model" in complaint(tiny_teacher, "--out", tmp_path / "out")
    line = complaint(f"{tiny_student}:{tiny_student}", "--out", tmp_path / "out")
    assert "needs one checkpoint, not an ensemble; 'vqnat average' makes one" in line
    line = complaint(tiny_student, "--out", tmp_path / "out", "--with-teacher", f"{tiny_teacher}:b.pt")
    assert f"--with-teacher {tiny_teacher}:b.pt: needs one checkpoint, not an ensemble" in line
    line = complaint(tiny_student, "--out", tmp_path / "out", "--with-teacher", tiny_student)
    assert f"--with-teacher {tiny_student}: is no autoregressive model" in line
    line = complaint(tmp_path / "none", "--out", tmp_path / "out")
    assert "checkpoint " in line and "none: no such file or folder" in line
    line = complaint(tiny_student, "--out", tmp_path / "used" / "config.json" / "out")
    assert f"out: needs a folder where {tmp_path / 'used' / 'config.json'}" in line
    assert "has no checkpoint_best.pt" in complaint(tmp_path, "--out", tmp_path / "out")
    assert "needs dict.en.txt and dict.de.txt" in complaint(
        tiny_student, "--out", tmp_path / "out", "--data", tmp_path
    )
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_int8_is_a_quarter_of_the_size_and_close(tmp_path: Path) -> None:
    model = tiny_model(embed_dim=256, ffn_dim=512, codebook_size=256)
    translators = {name: exported(model, tmp_path / name, name) for name in ("fp32", "int8")}
    sizes = {
        name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.onnx")) for name in translators
    }
    assert 3.5 < sizes["fp32"] / sizes["int8"] < 4
    rows = sentences(20)
    full, small = (translator.graphs for translator in translators.values())
    memory = full.encode(rows)
    codes = np.arange(60).reshape(20, 3)
    one, other = (
        each.write(memory, codes, codes >= 0, most=12, options=Decoding(min_len=0), scores=True).ends
        for each in (full, small)
    )
    for exact, rounded in ((memory.predictor[0], small.encode(rows).predictor[0]), (one, other)):
        assert np.linalg.norm(exact - rounded) < 0.03 * np.linalg.norm(exact)


def test_int8_products_do_not_leave_the_range_of_any_processor(tmp_path: Path) -> None:
    """The worst case: all activations and all weights are as large as they can be."""
    for weight in (torch.ones(24, 64), -torch.ones(24, 64), torch.linspace(-1, 1, 24 * 64).view(64, 24).T):
        graph = Graph("g", "int8")
        product = graph.linear(graph.input("x", FLOAT, "rows", 64), weight)
        graph.output(product, "y", FLOAT, "rows", len(weight))
        graph.save(tmp_path / "g.onnx")
        session = open_session(tmp_path / "g.onnx", 1)
        for x in (torch.ones(5, 64), torch.rand(5, 64, generator=torch.Generator().manual_seed(1))):
            [found] = session.run(None, {"x": x.numpy()})
            size = np.linalg.norm((x @ weight.abs().T).numpy())
            assert np.linalg.norm(found - (x @ weight.T).numpy()) < 0.02 * size
    numbers, _ = quantize_rows(torch.randn(9, 50), MOST_WEIGHT)
    assert np.abs(numbers).max() == MOST_WEIGHT and 2 * 255 * MOST_WEIGHT < 1 << 15


def test_two_thousand_words(tmp_path: Path) -> None:
    model, teacher = tiny_model(seed=5), random_teacher()
    translator = exported(model, tmp_path / "m", teacher=teacher)
    rows = [*sentences(1, shortest=2000, longest=2000), *sentences(5), *sentences(2, shortest=90, longest=99)]
    options = Decoding(candidates=2, rescore=True, max_len_a=1.0)
    wanted = by_torch(model, rows, options, teacher)
    assert_same(translator, rows, options, wanted)
    lines = [" ".join(translator.source.decode(row)) for row in rows]
    texts = translator.translate(lines, candidates=2, rescore=True, max_len_a=1.0)
    assert texts == [translator.text(every[0]["tokens"].tolist()) for every in wanted]
    # And a long one out.
    options = Decoding(rescore=True, min_len=500, max_len_b=600)
    [[only]] = wanted = by_torch(model, rows[:1], options, teacher)
    assert_same(translator, rows[:1], options, wanted)
    assert len(only["tokens"]) > 500


@pytest.mark.parametrize(
    "precision, identical, bleu, warning",
    [
        ("fp32", 1.0, 30.0, ""),
        ("fp32", 0.99, 30.0, "in fp32 all sentences should be identical"),
        ("int8", 0.9, 29.9, ""),
        ("int8", 0.9, 29.7, "more than 0.2 BLEU are lost"),
    ],
)
def test_what_is_less_than_it_should_be_is_said(
    precision: str, identical: float, bleu: float, warning: str
) -> None:
    compared = {
        "sentences": 100,
        "identical": identical,
        "score_difference": 0.01,
        "bleu": {"exported": bleu, "checkpoint": 30.0},
        "tokenize": "13a",
    }
    found = re.findall("warning: (.*)", describe(compared, precision))
    assert len(found) == bool(warning) and all(warning in line for line in found)


def test_the_papers_architecture_is_described_too(tiny_corpus: Path, tmp_path: Path) -> None:
    # Its options come from the dataclass itself, some as members of fairseq's enumerations.
    flags = ("--arch=vq_nat_em", "--max-update=1", "--unquantized-updates=0")
    checkpoint = train_student(tiny_corpus, tmp_path, *flags)
    main(["export", str(checkpoint), "--out", str(tmp_path / "out")])
    assert read_json(tmp_path / "out" / "config.json")["model"]["decoder_attention"] == "bidirectional"
