"""Long runs: nothing grows, and no line is lost. The default suite runs a small part of each."""

import gc
import os
import random
import sys
import unicodedata
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import batches, train_student, trainer

from vqnat_plugin.commands.main import main
from vqnat_plugin.data.prepare import prepare
from vqnat_plugin.data.settings import PrepareOptions
from vqnat_plugin.runtime import Translator

MEBIBYTE = 1 << 20


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_no_growth(step: Callable[[int], object], steps: int) -> None:
    """Call `step` with 0, 1, ...; after a quarter as warm-up neither objects nor memory may become more."""
    for number in range(steps // 4):
        step(number)
    gc.collect()
    objects, before = len(gc.get_objects()), resident()
    for number in range(steps // 4, steps):
        step(number)
    gc.collect()
    # A leak of one object a step would be hundreds; fragments of memory settle within a few MiB.
    assert len(gc.get_objects()) - objects < steps / 10
    assert resident() - before < 8 * MEBIBYTE


def parts(small: int, whole: int) -> pytest.MarkDecorator:
    """A test whose number of `steps` is small by default."""
    return pytest.mark.parametrize("steps", [small, pytest.param(whole, marks=pytest.mark.slow)])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@parts(100, 10_000)
def test_updates_take_no_more_memory(tiny_corpus: Path, steps: int) -> None:
    with trainer(tiny_corpus, "--bottleneck=em", "--code-revival=0.5", "--em-decay=0.9") as made:
        some = batches(made, 5)
        assert_no_growth(lambda number: made.train_step([some[number % 5]]), steps)
        assert made.get_num_updates() == steps


@pytest.fixture(scope="module")
def exported(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("soak") / "exported"
    main(["export", str(tiny_student), "--out", str(out), "--precision", "fp32"])
    return out


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@parts(200, 10_000)
def test_decodes_take_no_more_memory(
    tiny_corpus: Path, tiny_student: Path, exported: Path, steps: int
) -> None:
    translator, rng = Translator(exported), random.Random(1)
    with trainer(tiny_corpus) as made, torch.no_grad():
        task, model, some = made.task, made.get_model().eval(), batches(made, 5)
        model.load_state_dict(torch.load(tiny_student, weights_only=False)["model"])
        generator = task.build_generator([model], Namespace(beam=2, max_len_b=12))

        def decode(number: int) -> None:
            task.inference_step(generator, [model], some[number % 5])
            translator.translate([" ".join(f"w{rng.randrange(25)}" for _ in range(rng.randint(1, 12)))])

        assert_no_growth(decode, steps)


# What stands between lines elsewhere, joins or turns letters, is a mark of some tokeniser, or is no letter.
ODD_WORDS = (
    "\r \x0b \x0c \x1c \x1d \x1e \x1f \x85 \u2028 \u2029 \x00 \x01 \x07 \x1b[31m \x7f \t \ufeff \u200b \u200d"
    " \u200e \u202e \u2066 \xad \u0301\u0302\u0303 e\u0301 \u1e9b\u0323 ﬁ ① ﷽ \ufffd \ufffe \uffff \ue000"
    " \U000e0001 \U0010ffff 👩\u200d👩\u200d👧 🇩🇪 𝔘𝔫 ß İ ı Ǆ ａｂｃ ｱ ็็็ \u0e33 क्‍ष ﺍ ا\u0651 שׁ 한"
    " ᄒ\u1161\u11ab @@ @-@ ▁ ￭ ||| <unk> </s> <pad> <s> &amp; &#91; \\n %s {} '' `` -- ... 12,3% a.b@c.de http://x.y/?z=1"
)
# At blanks alone.
ODD = ODD_WORDS.split(" ")


def odd_line(rng: random.Random) -> str:
    words = []
    for _ in range(rng.randint(0, 8)):
        kind = rng.random()
        if kind < 0.5:
            words.append(rng.choice(ODD))
        elif kind < 0.8:
            words.append("".join(rng.choices("abcdeüöéñ", k=rng.randint(1, 5))))
        else:
            points = (rng.randrange(1, 0x110000) for _ in range(rng.randint(1, 3)))
            # Halves of characters cannot be written; a line feed ends a line.
            words.append(
                "".join(c for c in map(chr, points) if unicodedata.category(c) != "Cs" and c != "\n")
            )
    return rng.choice(("", " ", "\u3000")).join(words)


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize("tokenizer", ["moses", "sentencepiece"])
@parts(300, 50_000)
def test_no_odd_line_is_lost(tmp_path: Path, tokenizer: str, steps: int) -> None:
    rng, raw, out = random.Random(1), tmp_path / "raw", tmp_path / "data"
    raw.mkdir()
    counts = {"train": steps, "valid": 20, "test": 20}
    for split, count in counts.items():
        for language in ("de", "en"):
            write_lines(raw / f"{split}.{language}", [odd_line(rng) for _ in range(count)])
    options = PrepareOptions(
        data=(raw,), out=out, source_lang="de", target_lang="en", tokenizer=tokenizer, merges=100, max_ratio=9
    )
    prepared = prepare(options)
    assert prepared.pairs == {**counts, "train": steps - prepared.dropped.total()}
    assert prepared.pairs["train"] > steps / 2
    limits = ("--max-tokens=1000", "--skip-invalid-size-inputs-valid-test", "--max-update=4")
    student = train_student(out / "bin", tmp_path / "student", *limits)
    main(["export", str(student), "--out", str(tmp_path / "model"), "--precision", "fp32"])
    given, found = tmp_path / "given.de", tmp_path / "found.en"
    lines = [odd_line(rng) for _ in range(steps)]
    write_lines(given, lines)
    files = ["--input", str(given), "--output", str(found), "--max-len-b", "9"]
    assert main(["translate", str(tmp_path / "model"), *files]) in (None, 0)
    written = found.read_bytes().decode()
    assert written.count("\n") == steps and written.endswith("\n")
    translations = written.split("\n")[:-1]
    # Each stands where it belongs: lines are sorted by length inside.
    translator = Translator(tmp_path / "model")
    for number in rng.sample(range(steps), 50):
        assert translations[number] == translator.translate([lines[number]], max_len_b=9)[0]
