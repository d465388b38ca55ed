import hashlib
import itertools
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from distilling import binarize, chunk_times, contents, copy_of, ids, manifest, words
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import GenerationConfig
from forked import forked

from vqnat_plugin.distillation import run as running

Distill = Callable[..., int]


def test_every_source_has_its_translation_in_order(
    distilled: Path, tiny_corpus: Path, tiny_teacher: Path
) -> None:
    source, target = ids(distilled, "en"), ids(distilled, "de")
    assert source == ids(tiny_corpus, "en")
    [model], _, task = checkpoint_utils.load_model_ensemble_and_task([str(tiny_teacher)])
    generator = task.build_generator([model], GenerationConfig(beam=4, max_len_a=2, max_len_b=20))
    for sentence, translation in zip(source, target, strict=True):
        net_input = {"src_tokens": torch.tensor([sentence]), "src_lengths": torch.tensor([len(sentence)])}
        [candidates] = task.inference_step(generator, [model], {"net_input": net_input})
        assert candidates[0]["tokens"].tolist() == translation


def test_text_is_the_binary_data_line_by_line(distilled: Path) -> None:
    assert (distilled / "train.distilled.de").read_text().splitlines() == words(distilled, "de")


def test_the_rest_is_copied_byte_for_byte(distilled: Path, tiny_corpus: Path) -> None:
    before, after = contents(tiny_corpus), contents(distilled)
    copied = [name for name in before if name.startswith(("valid", "test", "dict"))]
    assert len(copied) == 10
    assert all(before[name] == after[name] for name in copied)
    new = {"train.distilled.de", "filtered.tsv"} | {name for name in before if name.startswith("train.")}
    assert set(after) == {*copied, *new}
    assert after["train.en-de.en.bin"] == before["train.en-de.en.bin"]


def test_fairseq_trains_on_it(distilled: Path) -> None:
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    arguments = [str(distilled), "--task=translation", "--arch=transformer", "--max-tokens=100"]
    parsed = options.parse_args_and_arch(options.get_training_parser(), input_args=arguments)
    task = tasks.setup_task(convert_namespace_to_omegaconf(parsed).task)
    for split, size in (("train", 60), ("valid", 8), ("test", 5)):
        task.load_dataset(split, combine=True)
        assert len(task.dataset(split)) == size
    assert task.dataset("train")[3]["target"].tolist() == ids(distilled, "de")[3]


def test_manifest(distilled: Path, tiny_corpus: Path, tiny_teacher: Path) -> None:
    found = manifest(distilled)
    assert found["counts"] == {"in": 60, "out": 60, "distilled": 60, "filtered": {}}
    digest = hashlib.sha256(tiny_teacher.read_bytes()).hexdigest()
    assert found["teacher"] == [{"path": str(tiny_teacher), "sha256": digest}]
    assert found["work"]["beam"] == 4
    assert found["options"]["filters"]["empty"] is True
    assert found["versions"]["torch"] == torch.__version__
    assert found["seconds"]["decoding"] > 0
    assert sorted(found["files"]) == sorted(contents(distilled))


def test_three_ranks_make_the_same_bytes(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for rank in (2, 0):
        assert distill(out, "--distributed-world-size=3", f"--distributed-rank={rank}") == 0
        assert "are still to come from other ranks" in capsys.readouterr().out
        assert not (out / "manifest.json").exists() and not list(out.glob("train.*"))
    assert distill(out, "--distributed-world-size=3", "--distributed-rank=1") == 0
    assert contents(out) == contents(distilled)


def test_ranks_come_from_torchrun_too(
    distill: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distill(tmp_path / "out") == 0
    assert sorted(chunk_times(tmp_path / "out")) == ["000001.npz", "000005.npz"]


def test_other_batches_make_the_same_bytes(distill: Distill, distilled: Path, tmp_path: Path) -> None:
    assert distill(tmp_path / "out", "--max-tokens=20", "--batch-size=3") == 0
    assert contents(tmp_path / "out") == contents(distilled)


def test_samples_are_those_of_their_seed(
    distill: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers are started anew elsewhere; as copies of this process they have everything imported.
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forking)
    made = {}
    for name, flags in {
        "one": ["--seed=1"],
        "two workers": ["--seed=1", "--workers=2"],
        "another": ["--seed=2"],
        "most probable": ["--seed=1", "--sampling-topk=1"],
    }.items():
        assert distill(tmp_path / name, "--sampling", *flags) == 0
        made[name] = contents(tmp_path / name)
    assert distill(tmp_path / "greedy", "--beam=1") == 0
    assert made["two workers"] == made["one"] != made["another"]
    assert made["most probable"] == contents(tmp_path / "greedy")
    different = zip(ids(tmp_path / "one", "de"), ids(tmp_path / "another", "de"), strict=True)
    assert sum(a != b for a, b in different) > 30


def test_samples_after_a_stop_are_the_same(distill: Distill, tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        assert distill(tmp_path / name, "--sampling") == 0
    (tmp_path / "stopped" / "manifest.json").unlink()
    for number in (1, 4):
        next(tmp_path.glob(f"stopped/.distill/chunks-*/{number:06d}.npz")).unlink()
    assert distill(tmp_path / "stopped", "--sampling") == 0
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_back_translation_can_be_read_from_the_other_side(
    distill: Distill, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Human sources with drawn targets of the other direction are data for a teacher of this one."""
    from vqnat_plugin.distillation.corpus import open_data

    assert distill(tmp_path / "out", "--sampling") == 0
    data = open_data(tmp_path / "out", "de", "en")
    assert (data.source_lang, data.pair) == ("de", "en-de")
    assert [sentence.tolist() for sentence in data.read().target] == ids(tiny_corpus, "en")
    assert [sentence.tolist() for sentence in data.read().source] == ids(tmp_path / "out", "de")


def test_after_a_kill_only_what_is_missing_is_translated(
    distill: Distill, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def killed_in_its_third_chunk() -> None:
        save, calls = np.savez, itertools.count(1)

        def die(part: Path, **arrays: np.ndarray) -> None:
            save(part, **arrays)  # type: ignore[arg-type]
            if next(calls) == 3:
                os.truncate(part, 100)
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(np, "savez", die)
        distill(out)

    assert forked(killed_in_its_third_chunk, out).status == -9
    before = chunk_times(out)
    assert len(before) == 2 and len(list(out.glob(".distill/chunks-*/*.part*"))) == 1
    assert not (out / "manifest.json").exists()

    translated: list[int] = []
    whole = running.translate_chunk
    monkeypatch.setattr(
        running, "translate_chunk", lambda *args: translated.extend(args[2].tolist()) or whole(*args)
    )
    # Another number of ranks than before: chunks are kept, whoever made them.
    for rank in (0, 1):
        assert distill(out, "--distributed-world-size=2", f"--distributed-rank={rank}") == 0
    after = chunk_times(out)
    assert len(after) == 8 and {name: after[name] for name in before} == before
    assert len(translated) == len(set(translated)) < 60 - 8
    assert contents(out) == contents(distilled)
    assert not list(out.glob(".distill/chunks-*/*.part*"))


def test_killed_while_merging(
    distill: Distill, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, move = tmp_path / "out", os.replace

    def die(source: Path, to: Path) -> None:
        if Path(to).name == "train.en-de.de.idx":
            raise KeyboardInterrupt
        move(source, to)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        assert distill(out) == 130
    assert not (out / "manifest.json").exists() and not (out / "train.en-de.de.idx").exists()
    (out / ".distill" / "merge-left-over").mkdir()
    assert distill(out) == 0
    assert contents(out) == contents(distilled)
    assert sorted(path.name for path in (out / ".distill").iterdir())[1:] == ["lock", "work.json"]


def test_finished_work_is_left_alone(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    shutil.rmtree(out / ".distill")
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert distill(out) == 0
    assert "is finished already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("--beam=2", "--beam was 4, is now 2"),
        ("--lenpen=0.6", "--lenpen was 1.0, is now 0.6"),
        ("--bf16", "the precision (--fp16, --bf16) was fp32, is now bf16"),
        ("--chunk-size=9", "--chunk-size was 8, is now 9"),
    ],
)
def test_changed_flag_is_refused(
    distill: Distill,
    distilled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    change: str,
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    for _ in ("with chunks", "with the manifest alone"):
        assert distill(out, flag) == 2
        error = capsys.readouterr().err
        assert change in error and "--restart" in error and "another --out" in error
        shutil.rmtree(out / ".distill", ignore_errors=True)
    assert contents(out) == contents(distilled)


def test_changed_data_and_teacher_are_refused(
    distill: Distill,
    distilled: Path,
    tiny_corpus: Path,
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, data = copy_of(distilled, tmp_path / "out"), copy_of(tiny_corpus, tmp_path / "data")
    lines = words(tiny_corpus, "en"), words(tiny_corpus, "de")
    changed = binarize(tmp_path / "changed", lines[0][::-1], lines[1][::-1], tiny_corpus)
    for file in changed.glob("train.*"):
        shutil.copy(file, data)
    assert distill(out, data=data) == 2
    assert "the data (--data) changed" in capsys.readouterr().err
    other = tmp_path / "teacher.pt"
    torch.save(torch.load(tiny_teacher) | {"note": "another"}, other)
    assert distill(out, teacher=other) == 2
    assert "the teacher (--teacher) changed" in capsys.readouterr().err
    assert distill(out, data=data, teacher=shutil.copy(other, tmp_path / "b.pt")) == 2
    assert "the teacher (--teacher) changed; the data (--data) changed" in capsys.readouterr().err
    assert distill(out, "--restart", data=data, teacher=other) == 0
    assert ids(out, "en") == ids(tiny_corpus, "en")[::-1]


def test_nothing_to_mix_no_refusal(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert distill(out, "-s", "de", "-t", "en") == 2
    assert "translates en-de" in capsys.readouterr().err
    assert distill(out, "-s", "en", "-t", "de") == 0
    assert contents(out) == contents(distilled)


def test_restart_begins_anew(distill: Distill, distilled: Path, tmp_path: Path) -> None:
    out = copy_of(distilled, tmp_path / "out")
    before = chunk_times(out)
    assert distill(out, "--restart", "--beam=1") == 0
    assert manifest(out)["work"]["beam"] == 1
    after = chunk_times(out)
    assert len(after) == 8 and all(after[name] > before[name] for name in before)
    assert len(list(out.glob(".distill/chunks-*"))) == 1


def test_damaged_chunk_is_named(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    (out / "manifest.json").unlink()
    [chunk] = out.glob(".distill/chunks-*/000003.npz")
    chunk.write_bytes(chunk.read_bytes()[:-50])
    assert distill(out) == 2
    assert re.search(r"000003\.npz: damaged .* delete it", capsys.readouterr().err)
    chunk.unlink()
    assert distill(out) == 0
    assert contents(out) == contents(distilled)


def test_chunks_that_hold_a_sentence_twice_are_refused(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy_of(distilled, tmp_path / "out")
    (out / "manifest.json").unlink()
    [folder] = out.glob(".distill/chunks-*")
    shutil.copy(folder / "000003.npz", folder / "000004.npz")
    assert distill(out) == 2
    assert re.search(r"was translated [02] times instead of once", capsys.readouterr().err)


def test_sentences_too_long_for_the_teacher_are_listed(
    distill: Distill, tiny_corpus: Path, tmp_path: Path
) -> None:
    source = ["w1 w2", "w3 " * 63, "w4 " * 64, "", "w5 " * 70]
    data = binarize(tmp_path / "data", source, ["W1", "W3", "W4", "W0", "W5"], tiny_corpus)
    assert distill(tmp_path / "out", "--chunk-size=2", data=data) == 0
    rows = [line.split("\t") for line in (tmp_path / "out" / "filtered.tsv").read_text().splitlines()[1:]]
    too_long, empty = "too_long_for_teacher", "empty_source"
    assert [row[:2] for row in rows] == [["2", too_long], ["3", empty], ["4", too_long]]
    assert rows[0][2] == source[2].strip() and rows[0][3] == ""
    assert words(tmp_path / "out", "en") == [source[i].strip() for i in (0, 1)]
    counts = manifest(tmp_path / "out")["counts"]
    assert counts == {"in": 5, "out": 2, "distilled": 2, "filtered": {empty: 1, too_long: 2}}


@pytest.mark.parametrize("flags", [(), ("--keep-empty", "--max-tokens=1"), ("--sampling",)])
def test_no_target_is_invented_for_a_source_without_words(
    distill: Distill,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
) -> None:
    source = ["w1 w2", "", "unheard of", "w3 unheard", " "]
    data = binarize(tmp_path / "data", source, ["W2 W1", "W5", "W6", "W3", ""], tiny_corpus)
    asked: list[list[int]] = []
    whole = running.Teacher.translate
    monkeypatch.setattr(
        running.Teacher,
        "translate",
        lambda self, batch: asked.extend(each.tolist() for each in batch) or whole(self, batch),
    )
    assert distill(tmp_path / "out", *flags, data=data) == 0
    assert len(asked) == 3 and all(len(sentence) > 1 for sentence in asked)
    rows = [line.split("\t")[:2] for line in (tmp_path / "out" / "filtered.tsv").read_text().splitlines()]
    assert rows[1:] == [["1", "empty_source"], ["2", "unknown_source"], ["4", "empty_source"]]
    assert [ids(data, "en")[i] for i in (0, 3)] == ids(tmp_path / "out", "en")
    assert manifest(tmp_path / "out")["counts"]["filtered"] == {"empty_source": 2, "unknown_source": 1}


def test_where_every_source_is_empty_the_reason_is_said(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = binarize(tmp_path / "data", ["", ""], ["W1", "W2"], tiny_corpus)
    for flags in ((), ("--filtered-fallback=raw",), ("--mix=both",)):
        assert distill(tmp_path / "out", *flags, data=data) == 2
        assert "data: every source of the training set is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "sentences"),
    [("--filtered-fallback=raw", [0, 2, 3]), ("--mix=both", [0, 2, 3, 0, 3])],
)
def test_an_empty_source_gives_no_pair_with_the_human_translation_either(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, flag: str, sentences: list[int]
) -> None:
    data = binarize(
        tmp_path / "data", ["w1 w2", "", "unheard", "w3", ""], ["W2 W1", "W5", "W6", "W3", ""], tiny_corpus
    )
    out = tmp_path / "out"
    assert distill(out, flag, data=data) == 0
    assert ids(out, "en") == [ids(data, "en")[i] for i in sentences]
    assert ids(out, "de")[1] == ids(data, "de")[2]
    counts = {"in": 5, "out": len(sentences), "distilled": 2}
    assert manifest(out)["counts"] == {**counts, "filtered": {"empty_source": 2, "unknown_source": 1}}


def test_a_reason_that_many_sentences_share_is_a_warning(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = words(tiny_corpus, "en"), words(tiny_corpus, "de")
    for name, empty, warned in (("many", 4, True), ("few", 3, False)):
        lines = ["" if i < empty else line for i, line in enumerate(source)]
        data = binarize(tmp_path / name, lines, target, tiny_corpus)
        assert distill(tmp_path / f"{name}_out", "--beam=1", data=data) == 0
        shown = capsys.readouterr()
        assert f"filtered: {empty} empty_source" in shown.out
        warning = "vqnat distill: warning: 4 of 60 sentences (7%) are filtered as empty_source"
        assert (warning in shown.err) == warned == ("warning: " in shown.err)


def test_the_text_pipeline_goes_along(
    distill: Distill, distilled: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = copy_of(tiny_corpus, tmp_path / "data"), tmp_path / "out"
    (data / "text.json").write_text("{}")
    assert distill(out, data=data) == 0
    assert (out / "text.json").read_text() == "{}" and "text.json" in manifest(out)["files"]
    assert contents(out) == contents(distilled) and not (distilled / "text.json").exists()
    # It changes no translation: neither finished work nor chunks are made anew for it.
    monkeypatch.setattr(running, "open_teacher", lambda *_: pytest.fail("the teacher is not needed"))
    (data / "text.json").write_text("[1]")
    assert distill(out, data=data) == 0
    assert (out / "text.json").read_text() == "[1]"
    (out / "manifest.json").unlink()
    (data / "text.json").write_text("[2]")
    assert distill(out, data=data) == 0
    assert (out / "text.json").read_text() == "[2]"


def test_changed_valid_set_is_copied_again(distill: Distill, tiny_corpus: Path, tmp_path: Path) -> None:
    data, out = copy_of(tiny_corpus, tmp_path / "data"), tmp_path / "out"
    assert distill(out, data=data) == 0
    for ending in ("bin", "idx"):
        shutil.copy(data / f"test.en-de.de.{ending}", data / f"valid.en-de.de.{ending}")
    assert distill(out, data=data) == 0
    assert ids(out, "de", "valid") == ids(tiny_corpus, "de", "test")
    # One of another name is no other content, but nothing of the old name stays.
    for path in data.glob("test.*"):
        path.rename(data / path.name.replace("test.", "test1."))
    assert distill(out, data=data) == 0
    assert {path.name for path in out.glob("test*")} == {path.name for path in data.glob("test1.*")}


def test_corpus_binarised_the_other_way_round(tiny_corpus: Path, distill: Distill, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for file in tiny_corpus.iterdir():
        shutil.copy(file, data / file.name.replace("en-de", "de-en"))
    assert distill(tmp_path / "out", "-s=en", "-t=de", data=data) == 0
    names = {file.name for file in (tmp_path / "out").glob("train.*")}
    assert "train.de-en.de.bin" in names and "train.en-de.de.bin" not in names
