"""A model whose encoder begins with its teacher's, which was frozen, is exported with that once for both."""

from pathlib import Path
from typing import Any

import pytest
from decoded import LINES, generate
from tiny import train_student

from vqnat_plugin.commands.main import main
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.decoding import Decoding


@pytest.fixture(scope="module", params=[1, 2], ids=["all of it", "its first layer"])
def frozen(
    request: pytest.FixtureRequest,
    tiny_corpus: Path,
    prenorm_teacher: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    layers = f"--encoder-layers={request.param}", "--frozen-encoder-layers=1"
    flags = f"--init-from-teacher={prenorm_teacher}", *layers, "--max-update=60"
    return train_student(tiny_corpus, tmp_path_factory.mktemp("frozen"), *flags)


@pytest.fixture(scope="module")
def exported(frozen: Path, prenorm_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "pair"
    words = ["export", str(frozen), "--out", str(out), "--precision", "fp32"]
    assert main([*words, "--with-teacher", str(prenorm_teacher)]) == 0
    return out


@pytest.mark.parametrize(
    "flags, options",
    [
        ("--beam 1", {}),
        ("--beam 1 --verify-with", {"verify": True}),
        ("--beam 1 --verify-tolerance 0.5 --verify-with", {"verify": True, "tolerance": 0.5}),
        ("--beam 3 --rescore-with", {"candidates": 3, "rescore": True}),
    ],
)
def test_it_translates_as_the_checkpoints_do(
    flags: str, options: dict[str, Any], frozen: Path, prenorm_teacher: Path, exported: Path, tmp_path: Path
) -> None:
    words = [*flags.split(), *([str(prenorm_teacher)] if flags.endswith("-with") else [])]
    wanted = generate(frozen, tmp_path, *words)
    translator = Translator(exported)
    assert translator.translate(LINES, **options) == wanted
    assert [translator.translate([line], **options)[0] for line in LINES] == wanted


def test_a_checked_draft_is_the_teachers_own_translation(
    prenorm_teacher: Path, exported: Path, tmp_path: Path
) -> None:
    wanted = generate(prenorm_teacher, tmp_path, "--beam", "1")
    assert Translator(exported).translate(LINES, verify=True) == wanted


def test_scores_and_passes_do_not_depend_on_the_batch(exported: Path) -> None:
    translator = Translator(exported)
    rows = [translator.encode(line) for line in LINES if line]
    for options in (Decoding(verify=True), Decoding(candidates=3, rescore=True)):
        together = translator.decode(rows, options)
        for found, row in zip(together, rows, strict=True):
            [alone] = translator.decode([row], options)
            assert [each.tokens for each in found] == [each.tokens for each in alone]
            assert [each.score for each in found] == pytest.approx([each.score for each in alone], rel=1e-4)
            assert [each.passes for each in found] == [each.passes for each in alone]


def test_the_teachers_encoder_is_not_stored_again(
    exported: Path, prenorm_teacher: Path, tiny_student: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    words = ["export", str(tiny_student), "--out", str(other), "--precision", "fp32"]
    assert main([*words, "--with-teacher", str(prenorm_teacher)]) == 0
    shared, own = ((folder / "teacher_encoder.onnx").stat().st_size for folder in (exported, other))
    # Left are the keys and values of two decoder layers of width 32.
    assert shared < own / 3 and shared < 2 * 4 * 2 * 2 * 32 * 33


def test_an_encoder_that_should_be_shared_and_is_not_is_said(
    frozen: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(frozen), "--out", str(tmp_path / "out"), "--with-teacher", str(tiny_teacher)]
    assert main(words) == 0
    assert "its encoder is not that of --init-from-teacher" in capsys.readouterr().err
