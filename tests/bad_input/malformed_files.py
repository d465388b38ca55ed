"""Malformed data and files of other kinds than checkpoints, see `malformed.py`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from malformed import MAKERS, Maker, Things, thing
from PIL import Image

# Binarised data.


def _data(things: Things, path: Path, name: str, spoil: Callable[[str], str | bytes]) -> None:
    shutil.copytree(things["data"], path)
    content = spoil((path / name).read_text())
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))


def _binary(name: str, spoil: Callable[[bytes], bytes]) -> Maker:
    def make(things: Things, path: Path) -> None:
        shutil.copytree(things["data"], path)
        (path / name).write_bytes(spoil((path / name).read_bytes()))

    return make


def _random(count: int) -> bytes:
    return bytes(np.random.default_rng(2).integers(0, 256, count, np.uint8))


def _foreign_tokens(content: bytes) -> bytes:
    tokens = np.frombuffer(content, np.uint16).copy()
    tokens[::3] = 60_000
    return tokens.tobytes()


for _split in ("train", "valid", "test"):
    for _how, _spoiler in {
        "emptyidx": ("idx", lambda content: b""),
        "garbageidx": ("idx", lambda content: _random(300)),
        "cutidx": ("idx", lambda content: content[: len(content) // 2]),
        "emptybin": ("bin", lambda content: b""),
        "cutbin": ("bin", lambda content: content[: len(content) // 2]),
        "foreignbin": ("bin", _foreign_tokens),
    }.items():
        MAKERS[f"{_how}_{_split}"] = _binary(f"{_split}.en-de.en.{_spoiler[0]}", _spoiler[1])
        MAKERS[f"{_how}_{_split}_de"] = _binary(f"{_split}.en-de.de.{_spoiler[0]}", _spoiler[1])

for _how, _dictionary in {
    "empty": lambda text: "",
    "garbage": lambda text: _random(400),
    "textcounts": lambda text: text.replace(" ", " many "),
    "nocounts": lambda text: "\n".join(line.split()[0] for line in text.splitlines()),
    "twice": lambda text: text + text,
    "latin1": lambda text: "für 3\n".encode("latin-1"),
}.items():
    MAKERS[f"{_how}_dict"] = lambda things, path, spoil=_dictionary: _data(things, path, "dict.de.txt", spoil)  # type: ignore[misc]


@thing
def no_dict(things: Things, path: Path) -> None:
    shutil.copytree(things["data"], path)
    (path / "dict.de.txt").unlink()


@thing
def no_data(things: Things, path: Path) -> None:
    path.mkdir()


for _how, _content in {  # type: ignore[assignment]
    "list": [1],
    "number": 5,
    "keys": {"format": 1},
    "format": {"format": "one"},
    "types": {"format": 1, "source_lang": 5, "target_lang": [], "tokenizer": {}, "normalization": None},
    "tokenizer": {
        "format": 1, "source_lang": "en", "target_lang": "de", "tokenizer": "x", "normalization": "nfc",
    },
    "model": {
        "format": 1, "source_lang": "en", "target_lang": "de", "tokenizer": "sentencepiece",
        "normalization": "nfc", "model": "AAAA",
    },
}.items():  # fmt: skip

    def _with_pipeline(things: Things, path: Path, content: Any = _content) -> None:
        shutil.copytree(things["data"], path)
        (path / "text.json").write_text(json.dumps(content))

    MAKERS[f"{_how}_pipeline"] = _with_pipeline


# Files of text and of other kinds.

TEXTS: dict[str, bytes] = {
    "empty.txt": b"",
    "latin1.txt": "für\nuns\n".encode("latin-1"),
    "garbage.txt": _random(2000),
    "zeros.txt": bytes(100),
    "returns.txt": b"one\rtwo\rthree\r",
    "five.txt": b"a\nb\nc\nd\ne\n",
    "five_more.txt": b"f\ng\nh\ni\nj\n",
    "three.txt": b"a\nb\nc\n",
    "cut.txt": b"S-0\ta\nD-0\t-0.5\n",
    "twice.txt": b"D-0\t-0.5\ta\nS-0\tb\nD-0\t-0.5\ta\n",
    "number.json": b"5",
    "list.json": b"[1, 2]",
    "deep.json": b"[" * 3000,
    "open.json": b'{"a": ',
    "nan.json": b'{"format": NaN}',
}
for _name, _bytes in TEXTS.items():
    MAKERS[_name] = lambda things, path, content=_bytes: path.write_bytes(content)  # type: ignore[misc]


@thing
def foreign_data(things: Things, path: Path) -> None:
    """Data of the same languages with other symbols."""
    _data(things, path, "dict.en.txt", lambda text: text.replace("w1", "v1"))
    shutil.copyfile(path / "dict.en.txt", path / "dict.de.txt")


# Folders.


def _folder(files: dict[str, str | bytes]) -> Maker:
    def make(things: Things, path: Path) -> None:
        for name, content in files.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def _splits(text: str) -> Maker:
    return _folder({f"{split}.{side}": text for split in ("train", "valid", "test") for side in ("en", "de")})


PAIR = {"valid.en": "a\n", "valid.de": "b\n", "test.en": "a\n", "test.de": "b\n"}
OBJECT = '{"en": "a", "de": "b"}\n'
MAKERS |= {
    "only_blanks": _splits("  \n\n"),
    "bad_table": _folder({**PAIR, "train.tsv": "a\tb\na\tb\tc\n"}),
    "bad_objects": _folder({**PAIR, "train.jsonl": OBJECT + '{"en": 5, "de": "b"}\n'}),
    "deep_objects": _folder({**PAIR, "train.jsonl": OBJECT + "[" * 100_000 + "\n"}),
    "bad_stages": _folder({"stages/a.json": "[1]", "stages/c.json": '{"order": "x", "command": 5}'}),
    "bad_cifar": _folder(
        {"cifar-10-batches-py/data_batch_1": _random(99), "cifar-10-batches-py/test_batch": b""}
    ),
    "bad_svhn": _folder({"test_32x32.mat": _random(999), "train_32x32.mat": b""}),
}

GRID = "caption: a\nseeds: [1]\ntrain: '--lr 1'\n"
COMPARISONS = "comparisons: {a: {title: t, rows: {r: ''}}}\n"
MAKERS |= {
    name: lambda things, path, text=text: path.write_text(text)  # type: ignore[misc]
    for name, text in {
        "good.yaml": GRID + COMPARISONS,
        "images.yaml": "measure: images\n" + GRID + COMPARISONS,
        "bomb.yaml": "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        "quote.yaml": GRID.replace("1'", "1 \"'") + COMPARISONS,
        "none.yaml": GRID + "comparisons: {}\n",
        "norows.yaml": GRID + "comparisons: {a: {title: t, rows: {}}}\n",
        "seeds.yaml": GRID.replace("[1]", "[]") + COMPARISONS,
        "seedtext.yaml": GRID.replace("[1]", "[one]") + COMPARISONS,
        "bigseed.yaml": GRID.replace("[1]", f"[{'9' * 20}]") + COMPARISONS,
        "rows.yaml": GRID + "comparisons: {a: {title: t, rows: {r: 5}}}\n",
        "title.yaml": GRID + "comparisons: {a: {rows: {r: ''}}}\n",
        "measure.yaml": "measure: speed\n" + GRID + COMPARISONS,
        "unknown.yaml": "sedes: [1]\n" + GRID + COMPARISONS,
        "path.yaml": GRID + "comparisons: {../a: {title: t, rows: {r: ''}}}\n",
        "deep.yaml": "[" * 3000,
        "date.yaml": "caption: 2020-13-45\n",
        "tag.yaml": "caption: !!python/object/apply:os.system [true]\n",
    }.items()
}

# Exported models.


def _model(name: str, spoil: Callable[[bytes], bytes | None]) -> Maker:
    def make(things: Things, path: Path) -> None:
        shutil.copytree(things["exported"], path)
        content = spoil((path / name).read_bytes())
        (path / name).unlink()
        if content is not None:
            (path / name).write_bytes(content)

    return make


def _config(**changes: Any) -> Maker:
    """Of which the digest is right: as if another program had written it."""

    def make(things: Things, path: Path) -> None:
        from vqnat_plugin.runtime.exported import write_config

        shutil.copytree(things["exported"], path)
        content = json.loads((path / "config.json").read_text())
        del content["digest"]
        sizes = {**content["sizes"], **changes.pop("sizes", {})}
        write_config(path, {**content, "sizes": sizes, **changes})

    return make


MAKERS |= {
    "bad_config": _model("config.json", lambda content: content[:-40]),
    "list_config": _model("config.json", lambda content: b"[1]"),
    "deep_config": _model("config.json", lambda content: b"[" * 100_000),
    "empty_config": _model("config.json", lambda content: b""),
    "cut_graph": _model("step.onnx", lambda content: content[:-40]),
    "no_graph": _model("writer.onnx", lambda content: None),
    "foreign_dictionary": _model("dict.target.txt", lambda content: b"a 1\n"),
    "text_sizes": _config(sizes={"embed_dim": "32"}),
    "huge_sizes": _config(sizes={"embed_dim": 10**12}),
    "later_format": _config(format=99),
}


@thing
def foreign_graph(things: Things, path: Path) -> None:
    from vqnat_plugin.reading import sha256

    _config()(things, path)
    shutil.copyfile(path / "encoder.onnx", path / "writer.onnx")
    files = json.loads((path / "config.json").read_text())["files"]
    shutil.rmtree(path)
    _config(files={**files, "writer.onnx": files["encoder.onnx"]})(things, path)
    shutil.copyfile(path / "encoder.onnx", path / "writer.onnx")
    assert sha256(path / "writer.onnx") == files["encoder.onnx"]


@thing
def folder_graph(things: Things, path: Path) -> None:
    shutil.copytree(things["exported"], path)
    (path / "step.onnx").unlink()
    (path / "step.onnx").mkdir()


# Images and their codes.


def _spoilt_images(spoil: Callable[[Path], object], split: str = "test") -> Maker:
    def make(things: Things, path: Path) -> None:
        shutil.copytree(things["images"], path)
        spoil(path / split / "a" / "000.png")

    return make


def _bomb(path: Path) -> None:
    # A header alone, of an image of 2^30 x 2^30.
    content = bytearray(path.read_bytes())
    content[16:24] = (2**30).to_bytes(4, "big") * 2
    path.write_bytes(content)


MAKERS |= {
    "cut_images": _spoilt_images(lambda path: path.write_bytes(path.read_bytes()[:40])),
    "other_size": _spoilt_images(lambda path: Image.new("RGB", (9, 8)).save(path)),
    "other_train": _spoilt_images(lambda path: Image.new("RGB", (9, 8)).save(path), "train"),
    "bomb_images": _spoilt_images(_bomb),
}


@thing
def not_utf8_images(things: Things, path: Path) -> None:
    """Two images of which one has a name that is not UTF-8, and is none."""
    path.mkdir()
    (path / os.fsdecode(b"\xfc.png")).write_bytes(b"no image")


def _codes(spoil: Callable[[dict[str, Any]], object]) -> Maker:
    def make(things: Things, path: Path) -> None:
        with np.load(things["codes_npz"]) as file:
            arrays = dict(file)
        spoil(arrays)
        np.savez(path, **arrays)

    return make


MAKERS |= {
    "cut.npz": lambda things, path: path.write_bytes(Path(things["codes_npz"]).read_bytes()[:-30]),
    "nodigest.npz": _codes(lambda arrays: arrays.pop("digest")),
    "listdigest.npz": _codes(lambda arrays: arrays.update(digest=np.array([1, 2]))),
    "textdigest.npz": _codes(lambda arrays: arrays.update(digest=np.array("x"))),
    "range.npz": _codes(lambda arrays: arrays.update(codes=arrays["codes"].astype(int) + 10**6)),
    "negative.npz": _codes(lambda arrays: arrays.update(codes=arrays["codes"].astype(int) - 10**6)),
    "floats.npz": _codes(lambda arrays: arrays.update(codes=arrays["codes"] * np.nan)),
    "names.npz": _codes(lambda arrays: arrays.update(names=arrays["names"][:-1])),
    "outside.npz": _codes(lambda arrays: arrays.update(names=np.char.add("../", arrays["names"]))),
    "absolute.npz": _codes(lambda arrays: arrays.update(names=np.char.add("/tmp/", arrays["names"]))),
    "objects.npz": _codes(lambda arrays: arrays.update(names=arrays["names"].astype(object))),
    "shape.npz": _codes(lambda arrays: arrays.update(codes=arrays["codes"][..., :1])),
}


@thing
def garbage_pref(things: Things, path: Path) -> None:
    for language in ("en", "de"):
        path.with_name(f"{path.name}.{language}").write_bytes(b"\xff\xfe\n")
