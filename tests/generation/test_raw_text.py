"""Raw text in, text out: the same treatment as in training, by every way in, and no line lost."""

import io
import random
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from fairseq_cli import generate, interactive
from test_decoding_cli import configuration

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.text.pipeline import FILE_NAME, TextPipeline

NOUNS = {"man": "Mann", "dog": "Hund", "friend": "Freund", "teacher": "Lehrer", "café": "Café"}
VERBS = {"sleeps": "schläft", "doesn't sing": "singt nicht", "is half-asleep": "ist halb-wach"}
ENDS = [".", "!", "..."]


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of German and English sentences with punctuation that Moses changes and puts back."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        noun, verb, end = rng.choice(list(NOUNS)), rng.choice(list(VERBS)), rng.choice(ENDS)
        made.append((f"Der {NOUNS[noun]} {VERBS[verb]}{end}", f"The {noun} {verb}{end}"))
    return made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `vqnat prepare` makes of German-English text."""
    folder = tmp_path_factory.mktemp("raw_text")
    for seed, (split, count) in enumerate((("train", 120), ("valid", 4), ("test", 6))):
        for language, side in zip(("de", "en"), zip(*sentences(count, seed), strict=True), strict=True):
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in side))
    languages = ["--source-lang", "de", "--target-lang", "en"]
    main(["prepare", "--data", str(folder), "--out", str(folder / "data"), *languages, "--merges", "90"])
    return folder / "data"


@pytest.fixture(scope="module")
def student(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt most of the pairs."""
    from tiny import train_student

    return train_student(prepared / "bin", tmp_path_factory.mktemp("student"), "--max-update=300")


# Normalised, segmented and put together in more than one way if it is not done as in training.
TEXT = [
    "Der Freund schläft...",
    "Der Freund schläft…",
    "  Der Lehrer  ist halb–wach!",
    "Der Cafe\u0301 singt nicht.",
]


def generated(student: Path, text: Path, *flags: str) -> list[str]:
    out = text.with_name("translations")
    main(["generate", "--path", str(student), "--input", str(text), "--output", str(out), "--cpu", *flags])
    return out.read_text().removesuffix("\n").split("\n")


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def readme_line() -> list[str]:
    """The arguments of the README's line for fairseq-interactive."""
    readme = (Path(__file__).parents[2] / "README.md").read_text().replace("\\\n", " ")
    found = re.search(r"^fairseq-interactive (.*)$", readme, re.MULTILINE)
    assert found
    return shlex.split(found[1])


def test_every_way_in_gives_the_same(
    prepared: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path / "in.de", TEXT)
    by_command = generated(student, text, "--beam", "1")
    # What differs in spelling alone is the same to the model; and it has learnt something.
    assert by_command[0] == by_command[1]
    assert by_command == ["The friend sleeps..."] * 2 + [
        "The teacher is half-asleep!",
        "The café doesn't sing.",
    ]
    words = readme_line()
    assert words[0].startswith("runs/") and "--tokenizer" not in words and "--bpe" not in words
    words[0], words[words.index("--path") + 1] = str(prepared / "bin"), str(student)
    place = words.index("--user-dir")
    del words[place : place + 2]
    words[words.index("--beam") + 1] = "1"
    from fairseq import options

    words[words.index("--input") + 1] = str(text)
    parser = options.get_interactive_generation_parser()
    interactive.main(configuration(parser, *words, "--cpu"))
    shown = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("D-")]
    assert [line[2] for line in shown] == by_command
    hub = VQNAT.from_pretrained(student)
    assert hub.translate(TEXT, beam=1) == by_command
    assert hub.encode(TEXT[0]).tolist() == hub.encode(TEXT[1]).tolist()


def test_binarised_text_is_put_together_again(prepared: Path, student: Path, tmp_path: Path) -> None:
    from fairseq import options

    out = io.StringIO()
    words = (
        f"{prepared / 'bin'} --path {student} --task translation_vq --cpu --required-batch-size-multiple 1"
    )
    generate._main(configuration(options.get_generation_parser(), *words.split(), "--beam=1"), out)
    found = {
        line.split("\t")[0]: line.split("\t")[2] for line in out.getvalue().splitlines() if line[0] == "D"
    }
    source = (prepared / "reference" / "test.de").read_text().splitlines()
    assert [found[f"D-{i}"] for i in range(6)] == generated(student, write(tmp_path / "in.de", source))


def test_lines_in_are_lines_out(student: Path, tmp_path: Path) -> None:
    lines = [TEXT[0], "", " \t", "☃ 猫\u2028x\x85y\x0bz", "a" * 300, TEXT[0], "\u200b", "\x1a"]
    text = tmp_path / "in.de"
    for start, end in (("", "\n"), ("\ufeff", "\r\n")):
        text.write_bytes((start + end.join(lines)).encode())
        found = generated(student, text)
        assert len(found) == len(lines)
        assert found[1] == found[2] == found[-1] == "" and found[0] == found[5] != ""
        assert generated(student, text, "--buffer-size", "2") == found


def test_standard_input_streams(
    student: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXT[:2]).encode())))
    assert main(["generate", "--path", str(student), "--input", "-", "--cpu"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found == generated(student, write(tmp_path / "in.de", TEXT[:2]))


def test_data_of_other_programs_are_taken_as_they_are(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (tiny_corpus.parent / "text" / "test.en").read_text().splitlines()
    found = generated(tiny_student, write(tmp_path / "in.en", lines))
    assert found == VQNAT.from_pretrained(tiny_student).translate(lines, beam=5)
    assert f"{tiny_corpus} has no text pipeline (text.json)" in capsys.readouterr().err
    # Their sub-words are put together by fairseq's option.
    joined = generated(tiny_student, tmp_path / "in.en", "--remove-bpe", "sentencepiece")
    assert joined == [line.replace(" ", "") for line in found] != found


def test_mistakes_are_one_line(
    prepared: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path / "in.de", TEXT)

    def complaint(*flags: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["generate", "--path", str(student), *flags, "--cpu"])
        out, err = capsys.readouterr()
        *progress, line = err.splitlines()
        assert not out and all(each.startswith("\r") or "line/s" in each for each in progress if each)
        return line

    assert "--input nowhere: no such file" in complaint("--input", "nowhere")
    assert "--output x: needs --input" in complaint("--output", "x")
    assert "--nbest 2: one translation a line" in complaint(
        "--input", str(text), "--beam", "2", "--nbest", "2"
    )
    assert "unknown option '--baem'" in complaint("--input", str(text), "--baem", "3")
    data = str(prepared / "bin")
    assert "unknown option '--nosuch'" in complaint(data, "--input", str(text), "--nosuch", "3")
    assert f"'more' is one argument too many: the folder of the data is {data}" in complaint(
        data, "more", "--input", str(text)
    )
    assert "--max-tokens 3: line 1 has" in complaint("--input", str(text), "--max-tokens", "3")
    (tmp_path / "latin").write_bytes("schön".encode("latin-1"))
    assert "not UTF-8" in complaint("--input", str(tmp_path / "latin"))
    write(tmp_path / "long", ["ein Hund", "Hund " * 1200])
    assert "line 2 has" in complaint("--input", str(tmp_path / "long"), "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "--path", str(student), "--input", str(tmp_path / "long"), "--cpu"])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "line 2 has" in err
    line = complaint("--input", str(text), str(prepared / "bin"), "--post-process", "sentencepiece")
    assert "--post-process sentencepiece: leave it out" in line


def test_a_damaged_pipeline_is_named(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"text\.json: damaged text pipeline"):
        damaged = (prepared / "bin" / FILE_NAME).read_text().replace('"moses"', '"mosis"')
        (prepared / "damaged.json").write_text(damaged)
        TextPipeline.load((prepared / "damaged.json").rename(prepared / FILE_NAME))
