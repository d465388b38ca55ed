"""What is wrong with a folder is said in one line."""

import shutil
from pathlib import Path

import pytest
from exporting import exported, random_teacher
from tiny import tiny_model

from vqnat_plugin.errors import DataError
from vqnat_plugin.runtime.exported import CONFIG, FORMAT
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
