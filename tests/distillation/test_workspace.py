import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from distilling import contents, copy_of, options

from vqnat_plugin.distillation.chunks import Chunk, ChunkStore
from vqnat_plugin.distillation.corpus import open_data
from vqnat_plugin.distillation.workspace import Workspace, identity

Distill = Callable[..., int]


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_identity_stays_what_it_was(tiny_corpus: Path, tiny_teacher: Path) -> None:
    """Folders that earlier versions began are gone on with: the very text of the identity counts."""
    made = identity(options(data=tiny_corpus, teacher=str(tiny_teacher)), open_data(tiny_corpus))
    names = [f"train.en-de.{language}.{ending}" for language in ("en", "de") for ending in ("bin", "idx")]
    data = digest(*(tiny_corpus / name for name in [*names, "dict.en.txt", "dict.de.txt"]))
    expected = (
        f'{{"beam": 4, "chunk_size": 512, "data": "{data}", "format": 2, "lenpen": 1.0, "max_len_a": 2.0, '
        '"max_len_b": 20, "min_len": 1, "no_repeat_ngram_size": 0, "precision": "fp32", "sampling": false, '
        f'"sampling_topk": -1, "seed": 1, "source_lang": "en", "target_lang": "de", "teacher": '
        f'["{digest(tiny_teacher)}"], "temperature": 1.0, "unkpen": 0.0}}'
    )
    assert json.dumps(made, sort_keys=True) == expected
    name = f"chunks-{hashlib.sha256(expected.encode()).hexdigest()[:16]}"
    assert Workspace(Path("out"), made).chunks.folder == Path("out", ".distill", name)


def test_batches_belong_to_the_identity_of_samples_alone(tiny_corpus: Path, tiny_teacher: Path) -> None:
    data = open_data(tiny_corpus)
    for sampling in (False, True):
        made = [
            identity(options(teacher=str(tiny_teacher), sampling=sampling, **batches), data)
            for batches in ({}, {"max_tokens": 20}, {"batch_size": 3}, {"workers": 2, "cpu": True})
        ]
        assert made[3] == made[0]
        assert (made[1] != made[0], made[2] != made[0]) == (sampling, sampling)


def test_the_seed_belongs_to_the_identity_of_samples_alone(tiny_corpus: Path, tiny_teacher: Path) -> None:
    data = open_data(tiny_corpus)
    for sampling in (False, True):
        one, other = (
            identity(options(teacher=str(tiny_teacher), sampling=sampling, seed=seed), data)
            for seed in (1, 2)
        )
        assert (one != other) == sampling


def test_samples_of_other_batches_are_not_mixed(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert distill(out, "--sampling") == 0
    for flag, change in (
        ("--max-tokens=20", "--max-tokens was 8192, is now 20"),
        ("--batch-size=3", "--batch-size was None, is now 3"),
    ):
        assert distill(out, "--sampling", flag) == 2
        assert f"holds work with other settings: {change}. Go on" in capsys.readouterr().err
    work = json.loads((out / ".distill" / "work.json").read_text())
    older = {name: value for name, value in work.items() if name not in ("max_tokens", "batch_size")}
    (out / ".distill" / "work.json").write_text(json.dumps(older))
    (out / "manifest.json").unlink()
    assert distill(out, "--sampling") == 2
    assert "--max-tokens was not recorded, is now 8192" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["manifest.json", ".distill/work.json"])
@pytest.mark.parametrize("content", ["", '{"work": {"beam', "[1, 2]"])
def test_damaged_record_is_named_with_the_way_out(
    distill: Distill,
    distilled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    if name != "manifest.json":
        (out / "manifest.json").unlink()
    (out / name).write_text(content)
    assert distill(out) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vqnat distill: error: {out / name}: ")
    assert line.endswith("; begin anew with --restart")
    if content:
        return
    assert distill(out, "--restart") == 0
    assert contents(out) == contents(distilled)


def test_restart_leaves_no_old_training_set_behind(
    tiny_corpus: Path, distilled: Path, tmp_path: Path
) -> None:
    """Also where the manifest, and with it the list of its files, is gone."""
    for name in ("with manifest", "without"):
        out = copy_of(distilled, tmp_path / name)
        if name == "without":
            (out / "manifest.json").unlink()
        Workspace(out, {"format": 2}).open(restart=True)
        assert not list(out.glob("train.*.idx"))
        assert [path.name for path in (out / ".distill").iterdir() if path.is_file()] == ["work.json"]


def test_manifest_cannot_name_files_elsewhere(distilled: Path, tmp_path: Path) -> None:
    out = copy_of(distilled, tmp_path / "out")
    (tmp_path / "thesis.txt").touch()
    found = json.loads((out / "manifest.json").read_text())
    names = ["../thesis.txt", str(tmp_path / "thesis.txt")]
    (out / "manifest.json").write_text(json.dumps({**found, "files": names}))
    Workspace(out, {"format": 2}).open(restart=True)
    assert (tmp_path / "thesis.txt").exists()


def test_restart_deletes_nothing_that_was_not_written_here(distilled: Path, tmp_path: Path) -> None:
    out = copy_of(distilled, tmp_path / "out")
    victim = tmp_path / "victim.bin"
    victim.write_text("mine")
    kept = [out / name for name in ("notes.txt", "train.txt", "dict.txt", "testimony.pdf")]
    for file in kept:
        file.write_text("mine")
    (out / "valid.en-de.en.bin").unlink()
    (out / "valid.en-de.en.bin").symlink_to(victim)
    found = json.loads((out / "manifest.json").read_text())
    names = [*found["files"], *(file.name for file in kept), "", ".", "..", "a/b"]
    (out / "manifest.json").write_text(json.dumps({**found, "files": names}))
    Workspace(out, {"format": 2}).open(restart=True)
    assert [file.read_text() for file in (victim, *kept)] == ["mine"] * 5
    assert sorted(out.iterdir()) == sorted([*kept, out / ".distill"])


def test_nothing_is_done_through_links(distill: Distill, distilled: Path, tmp_path: Path) -> None:
    out, elsewhere, victim = copy_of(distilled, tmp_path / "out"), tmp_path / "elsewhere", tmp_path / "victim"
    victim.write_text("mine")
    lock = out / ".distill" / "lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), Workspace(out, {"format": 2}).merging():
        pass
    (out / ".distill").rename(elsewhere)
    (out / ".distill").symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    for flags in ([], ["--restart"]):
        (out / "manifest.json").unlink(missing_ok=True)
        assert distill(out, *flags) == 2
    assert sorted(elsewhere.rglob("*")) == before and victim.read_text() == "mine"


@pytest.mark.parametrize(
    "content", ['{"work": []}', '{"work": {}, "files": "abc"}', '{"work": {}, "files": [1]}', '{"work": {}}']
)
def test_manifest_of_another_form(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    (out / "manifest.json").write_text(content)
    assert distill(out) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"vqnat distill: error: {out / 'manifest.json'}: damaged; begin anew with --restart"


def test_chunk_of_another_dictionary_is_named(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    (out / "manifest.json").unlink()
    [folder] = out.glob(".distill/chunks-*")
    store = ChunkStore(folder)
    chunk = store.read(0)
    store.write(0, Chunk(chunk.indices, [np.array([10**6], np.int32)] * len(chunk.indices), 0.0))
    assert distill(out) == 2
    assert "000000.npz: a chunk of other data; delete it and run again" in capsys.readouterr().err


def test_manifest_of_something_else_is_no_work_of_ours(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    assert distill(tmp_path) == 2
    assert "holds files that were not made here" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("[]")
    for flags in ([], ["--restart"]):
        assert distill(tmp_path, *flags) == 2
        assert "found list; choose another --out" in capsys.readouterr().err
    assert (tmp_path / "manifest.json").read_text() == "[]"


def test_half_written_chunk_is_not_taken_for_work(distill: Distill, distilled: Path, tmp_path: Path) -> None:
    """What a killed process left neither forbids other settings nor stays."""
    out = copy_of(distilled, tmp_path / "out")
    (out / "manifest.json").unlink()
    for file in list(out.iterdir()):
        if file.is_file():
            file.unlink()
    [folder] = out.glob(".distill/chunks-*")
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / f".000000.{'0' * 16}.part.npz").write_bytes(b"PK")
    (out / ".distill" / f".work.{'0' * 16}.part.json").write_text("{")
    assert distill(out, "--beam=1") == 0
    assert not list((out / ".distill").glob("*.part*")) and not list(out.glob("*.part*"))
