"""An exported model translates as `vqnat generate` does; damaged folders are explained."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.runtime import Translator, graphs
from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.dictionary import Dictionary

TEXT = [
    "Der Mann schläft...",
    "",
    "Hund Hund  halb–wach Cafe\u0301!",
    " \t",
    "\u200b",
    "☃ 猫\u2028x\x85y\x0bz",
    "Mann schläft " * 100,
    "Hund!",
    "a" * 150,
    "Café Mann Hund schläft halb-wach Hund Mann!",
]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "flags, options",
    [
        ("--beam 1", {}),
        ("--beam 4", {"candidates": 4}),
        ("--beam 1 --max-len-a 0.5 --max-len-b 2", {"max_len_a": 0.5, "max_len_b": 2}),
        ("--beam 3 --min-len 12 --lenpen 0.5", {"candidates": 3, "min_len": 12, "lenpen": 0.5}),
        ("--beam 2 --unkpen -9", {"candidates": 2, "unkpen": -9}),
    ],
)
def test_translates_as_generate_does(
    flags: str,
    options: dict[str, float],
    german_student: Path,
    german_exported: Path,
    tmp_path: Path,
) -> None:
    text, out = write(tmp_path / "in.de", TEXT), tmp_path / "out"
    words = ["--path", str(german_student), "--input", str(text), "--output", str(out), "--cpu"]
    main(["generate", *words, *flags.split()])
    expected = out.read_text().removesuffix("\n").split("\n")
    translator = Translator(german_exported)
    assert translator.translate(TEXT, **options) == expected
    assert [translator.translate([line], **options)[0] for line in TEXT] == expected
    flat = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    main(["translate", str(german_exported), "--input", str(text), "--output", str(out), *flat])
    assert out.read_text().removesuffix("\n").split("\n") == expected


def test_line_breaks_of_a_text_stay(german_exported: Path) -> None:
    translator = Translator(german_exported)
    one, two, three, dots = translator.translate(["Mann schläft!", "Hund", "Café Hund schläft!", "..."])
    text = "\n Mann schläft! Hund\r\n\n \n Café Hund schläft!\n...\nHund \n"
    joined = f"{one} {two}\n\n\n{three}\n{dots}\n{two}"
    assert translator.translate([text, "\n"], split_sentences=True) == [joined, ""]


def same(hypothesis: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    return lambda other: bool(hypothesis["tokens"].tolist() == other["tokens"].tolist())


def test_candidates_are_those_of_the_checkpoint(german_student: Path, german_exported: Path) -> None:
    hub = VQNAT.from_pretrained(german_student)
    lines = [line for line in TEXT if line.strip(" \t\u200b")]
    theirs = hub.generate([hub.encode(line) for line in lines], beam=4)
    ours = Translator(german_exported).candidates(lines)
    for found, every in zip(ours, theirs, strict=True):
        # Different codes often write the same words.
        wanted = [each for place, each in enumerate(every) if not any(map(same(each), every[:place]))]
        assert [each.text for each in found] == [hub.decode(each["tokens"]) for each in wanted]
        assert [each.score for each in found] == pytest.approx([each["score"] for each in wanted], abs=1e-5)
        for each, hypothesis in zip(found, wanted, strict=True):
            assert " ".join(each.tokens) == hub.string(hypothesis["tokens"])
            assert all(0 <= code < 16 for code in each.codes) and each.codes
    two = Translator(german_exported).candidates(["", lines[0]], n_best=2)
    assert [len(found) for found in two] == [1, 2] and two[0][0].text == ""
    assert two[1] == ours[0][:2]


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 40))
def test_parts_are_all_rows_in_order(batch: int, group: int, most: int) -> None:
    parts = list(graphs.parts(batch, group, most))
    rows = [row for _, part in parts for row in range(part.start, part.stop)]
    assert rows == list(range(batch * group))
    for sentences, part in parts:
        assert part.stop - part.start <= max(1, most)
        assert {row // group for row in range(part.start, part.stop)} == set(
            range(sentences.start, sentences.stop)
        )


def test_few_words_at_a_time_are_the_same_words(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Translator(german_exported)
    expected = translator.candidates(TEXT)
    for logits in (1, 100, 5000):
        monkeypatch.setattr(graphs, "LOGITS", logits)
        for found, wanted in zip(translator.candidates(TEXT), expected, strict=True):
            assert [each.text for each in found] == [each.text for each in wanted]
            assert [each.score for each in found] == pytest.approx([each.score for each in wanted], abs=1e-5)


def test_several_threads_may_use_one_translator(german_exported: Path) -> None:
    translator = Translator(german_exported, threads=2)
    expected = translator.translate(TEXT, candidates=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: translator.translate(TEXT, candidates=2), range(8)))
    assert found == [expected] * 8
    assert translator.translate([]) == []


def test_neither_torch_nor_fairseq_is_needed(german_exported: Path, tmp_path: Path) -> None:
    text, out = write(tmp_path / "in", TEXT), tmp_path / "out"
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'omegaconf')))\n"
        "from vqnat_plugin.commands.main import main\n"
        f"main(['translate', {str(german_exported)!r}, '--input', {str(text)!r}, '--output', {str(out)!r}])\n"
        "from vqnat_plugin.runtime import Translator\n"
        f"print(Translator({str(german_exported)!r}).translate(['Der Mann schläft...'])[0])\n"
        "assert 'fairseq' not in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == out.read_text().split("\n")[0] != ""


def test_mistakes(german_exported: Path) -> None:
    translator = Translator(german_exported)
    with pytest.raises(DataError, match=r"line 2 has \d+ tokens, the model reads 1024 at most"):
        translator.translate(["Hund", "Hund " * 1200])
    with pytest.raises(UsageError, match=r"--candidates 0: needs at least 1"):
        translator.translate(TEXT, candidates=0)
    with pytest.raises(UsageError, match=r"--min-len 5: needs --max-len-b of as much"):
        translator.candidates(TEXT, min_len=5, max_len_b=4)
    for call in (translator.translate, translator.candidates):
        with pytest.raises(UsageError, match=r"lines 'Hund schläft': needs a list of lines"):
            call("Hund schläft")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_of_candidates_with_the_same_words_the_best_is_shown(german_exported: Path) -> None:
    translator = Translator(german_exported)
    lines = [line for line in TEXT if line.strip(" \t\u200b")]
    rows = [translator.encode(line) for line in lines]
    found = translator.decode(rows, Decoding(candidates=8, max_len_b=2))
    assert any(len(translator.distinct(each)) < len(each) for each in found)
    for every, shown in zip(found, translator.candidates(lines, candidates=8, max_len_b=2), strict=True):
        words = [translator.text(each.tokens) for each in every]
        assert [each.text for each in shown] == list(dict.fromkeys(words))
        assert [each.score for each in shown] == [every[words.index(each.text)].score for each in shown]


@pytest.mark.parametrize("name", ["step.onnx", "text.json", "dict.source.txt"])
def test_files_have_to_be_those_that_were_exported(name: str, german_exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(german_exported, tmp_path / "model"))
    with (folder / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(DataError, match=f"{name}: is not the file that was exported"):
        Translator(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        Translator(folder)


def test_foreign_damaged_and_newer_folders(german_exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(german_exported, tmp_path / "model"))
    config = folder / "config.json"
    change(config, max_source_positions=5000)
    with pytest.raises(DataError, match=r"config\.json: is not what was exported"):
        Translator(folder)
    change(config, format=5)
    with pytest.raises(DataError, match="exported model of format 5, needs 4"):
        Translator(folder)
    change(config, kind="bert")
    with pytest.raises(DataError, match="is no exported model"):
        Translator(folder)
    config.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        Translator(folder)
    config.unlink()
    with pytest.raises(DataError, match="is no exported model"):
        Translator(folder)
    with pytest.raises(DataError, match="no such folder"):
        Translator(tmp_path / "none")


def test_dictionary_numbers_symbols_as_fairseq_does(tmp_path: Path) -> None:
    from fairseq.data import Dictionary as Theirs

    path = tmp_path / "dict.txt"
    path.write_text("a 5\nb 3\n<unk> 2 #fairseq:overwrite\na@@ 1\na 7 #fairseq:overwrite\n")
    ours, theirs = Dictionary(path), Theirs.load(str(path))
    assert ours.symbols == theirs.symbols
    line = " a b\tc <unk> </s> a@@ "
    assert ours.encode(line) == theirs.encode_line(line, add_if_not_exist=False).tolist()
    assert " ".join(ours.decode(range(4, 9))) == theirs.string(range(4, 9))
