"""What is wrong with a folder is said in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from exporting import exported, random_teacher
from tiny import tiny_model

from vqnat_plugin.errors import DataError
from vqnat_plugin.reading import sha256
from vqnat_plugin.runtime.exported import CONFIG, FORMAT, Exported, read_config, write_config
from vqnat_plugin.runtime.translator import Translator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model with a teacher."""
    exported(tiny_model(), tmp_path / "model", teacher=random_teacher())
    return tmp_path / "model"


def complaint(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        Translator(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def forge(folder: Path, **values: Any) -> None:
    """Write other values into config.json, with the digest that they need."""
    config = json.loads((folder / CONFIG).read_text())
    del config["digest"]
    write_config(folder, config | values)


@pytest.mark.parametrize("name", ["config.json", "step.onnx", "teacher_scorer.onnx", "dict.target.txt"])
def test_a_folder_or_nothing_where_a_file_should_be(name: str, folder: Path) -> None:
    (folder / name).unlink()
    expected = "is no exported model" if name == CONFIG else f"{name}: missing; export the model again"
    assert expected in complaint(folder)
    (folder / name).mkdir()
    assert expected in complaint(folder)
    (folder / name).rmdir()
    (folder / name).symlink_to(folder / "nowhere")
    assert expected in complaint(folder)


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (folder / "step.onnx").rename(tmp_path / "moved")
    (folder / "step.onnx").symlink_to(tmp_path / "moved")
    assert Translator(tmp_path / "link").translate(["w1 w2"]) == Translator(folder).translate(["w1 w2"])
    shutil.rmtree(folder)
    assert "no such folder" in complaint(tmp_path / "link")


def test_config_that_cannot_be_read(folder: Path) -> None:
    whole = (folder / CONFIG).read_bytes()
    for content, reason in (
        (whole[:100], "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (whole.replace(b'"format": %d' % FORMAT, b'"format": "%d"' % FORMAT), "of format '"),
        (whole.replace(b"4096", b"4097"), "is not what was exported"),
    ):
        (folder / CONFIG).write_bytes(content)
        assert reason in complaint(folder)


@pytest.mark.parametrize(
    "name, value",
    [
        ("precision", 8),
        ("source_lang", None),
        ("max_source_positions", "many"),
        ("max_source_positions", True),
        ("max_source_positions", -5),
        ("sizes", []),
        ("files", ["step.onnx"]),
        ("teacher", "t.pt"),
    ],
)
def test_values_of_another_kind(name: str, value: Any, folder: Path) -> None:
    forge(folder, **{name: value})
    assert f"{CONFIG}: '{name}' " in complaint(folder)


@pytest.mark.parametrize("usual", [0, "many", 10**6, True])
def test_the_usual_length_is_a_length(usual: Any, folder: Path) -> None:
    forge(folder, usual_source_tokens=usual)
    assert f"{CONFIG}: 'usual_source_tokens' " in complaint(folder)


@pytest.mark.parametrize("usual", [None, ..., 7, 60_000])
def test_the_usual_length_may_be_unknown(usual: Any, folder: Path) -> None:
    config = read_config(folder)
    config.pop("usual_source_tokens", None)
    write_config(folder, config if usual is ... else {**config, "usual_source_tokens": usual})
    found = Exported.read(folder)
    assert found.usual == (7 if usual == 7 else found.longest)


@pytest.mark.parametrize("most", [None, 0, "many", 10**6])
def test_teachers_say_how_much_they_write(most: Any, folder: Path) -> None:
    forge(folder, teacher={"max_target_positions": most})
    assert f"{CONFIG}: 'max_target_positions' has to be " in complaint(folder)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"embed_dim": 32}, "do not fit each other"),
        ({"embed_dim": 10**9}, "'embed_dim' has to be at most 65,536, not 1,000,000,000"),
        ({"embed_dim": -16}, "'embed_dim' has to be a whole number of at least 1, not -16"),
        ({"attention_heads": 4}, "do not fit each other"),
        ({"predictor_layers": 2}, "do not fit each other"),
        ({"codebook_size": 9}, "do not fit each other"),
        ({"codebook_size": 8.0}, "'codebook_size' has to be a whole number"),
        ({"compress_steps": 2}, "do not fit each other"),
        ({"compress_steps": 10**15}, "'compress_steps' has to be at most 6, not 1,000,000,000,000,000"),
        ({"target_symbols": 21}, "(20 symbols where 21 are needed)"),
    ],
)
def test_sizes_of_another_model(changes: dict[str, Any], reason: str, folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    forge(folder, sizes=config["sizes"] | changes)
    assert reason in complaint(folder)


def test_graphs_that_are_none(folder: Path) -> None:
    files = json.loads((folder / CONFIG).read_text())["files"]

    def spoil(name: str) -> None:
        (folder / name).write_bytes(b"no graph")
        files[name] = sha256(folder / name)
        forge(folder, files=files)

    spoil("teacher_encoder.onnx")
    translator = Translator(folder)
    with pytest.raises(DataError, match=r"teacher_encoder\.onnx: ONNX Runtime .* cannot read it"):
        translator.translate(["w1"], rescore=True)
    spoil("encoder.onnx")
    assert "encoder.onnx: ONNX Runtime" in complaint(folder)
