"""Commands that write one result: with no room for it, one line, nothing half-written, and then it works."""

import random
import shutil
from pathlib import Path

import pytest
from forked import forked

from vqnat_plugin.commands.main import main

# What each command is given besides --out or what stands for it; names are those of fixtures.
TEXT = {
    "export": "{student} --out {out} --precision fp32",
    "diagnose": "{student} --gen-subset valid --out {out} --cpu",
    "inspect": "{student} --gen-subset valid --out {out} --cpu",
    "latents": "{student} --gen-subset valid --out {out} --cpu",
    "compare": "{corpus} --ref {reference} --out {out} --system student {student} --batch-sizes 1"
    " --sentences 1 --warmup 0",
    "benchmark": "{corpus} --out {out} --system student {student} --batch-sizes 1 --sentences 1 --warmup 0",
    "benchmark --convert": "{teacher} --out {out} --precision fp32",
    "benchmark quantizer": "--vectors 9 --dim 4 --codes 4 --repeats 1 --steps 0 --out {out}",
    "generate": "--path {student} --input {lines} --output {out} --cpu",
}
IMAGES = {
    "images evaluate": "{autoencoder} --data {images} --out {out} --cpu",
    "images encode": "{autoencoder} {images}/test {out} --cpu",
    "images decode": "{autoencoder} {codes} {out} --cpu",
}


def check(name: str, words: list[str], folder: Path, out: Path) -> None:
    """Runs a command without room, then with."""
    before = sorted(folder.rglob("*"))
    ended = forked(lambda: main(words), folder, largest_file=3)
    assert ended.status == 2 and len(ended.errors) == 1, ended.output
    assert "cannot be written (File too large); make room" in ended.errors[0], ended.output
    left = [path for path in folder.rglob("*") if path not in before and path.is_file()]
    assert [path for path in left if path.stat().st_size > 0 and path.suffix != ".log"] == []
    again = forked(lambda: main(words), folder)
    assert again.status == 0, again.output
    assert out.exists()


@pytest.mark.parametrize("name", TEXT)
def test_text(
    name: str,
    tiny_corpus: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    prenorm_teacher: Path,
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    lines, reference = tmp_path / "lines", tmp_path / "reference"
    for path in (lines, reference):
        path.write_text("".join(" ".join(rng.choices(["w1", "w2", "w3"], k=4)) + "\n" for _ in range(5)))
    folder = tmp_path / "work"
    folder.mkdir()
    out = folder / "out"
    given = {
        "student": tiny_student,
        "corpus": tiny_corpus,
        "teacher": prenorm_teacher if "convert" in name else tiny_teacher,
        "reference": reference,
        "lines": lines,
        "out": out,
    }
    check(name, [*name.split(), *TEXT[name].format(**given).split()], folder, out)


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, image_folder: Path, image_autoencoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    codes, out = tmp_path / "codes.npz", folder / "out.npz"
    given = {"autoencoder": image_autoencoder, "images": image_folder, "codes": codes, "out": out}
    if name == "images decode":
        encoding = IMAGES["images encode"].format(**{**given, "out": codes})
        assert main(["images", "encode", *encoding.split()]) == 0
        given["out"] = out = folder / "decoded"
    check(name, [*name.split(), *IMAGES[name].format(**given).split()], folder, out)
    shutil.rmtree(folder)
