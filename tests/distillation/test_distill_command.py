import re
from collections.abc import Callable
from pathlib import Path

import pytest
from distilling import copy_of, options, vqnat_distill

from vqnat_plugin.commands.main import parser_of
from vqnat_plugin.distillation.filters import as_recorded
from vqnat_plugin.distillation.settings import DistillOptions
from vqnat_plugin.options import parse

Distill = Callable[..., int]


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The error message, which has to be one line."""
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("vqnat distill: error: ")
    return line


def test_missing_data(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(tmp_path / "out", data=tmp_path / "none") == 2
    assert f"--data {tmp_path / 'none'}: no such folder" in one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_missing_dictionary(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy_of(tiny_corpus, tmp_path / "data")
    (data / "dict.en.txt").unlink()
    assert distill(tmp_path / "out", data=data) == 2
    assert "dict.en.txt is missing" in one_error(capsys)


def test_missing_teacher(
    distill: Distill, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distill(tmp_path / "out", teacher=f"{tiny_teacher}:{tmp_path / 'none.pt'}") == 2
    assert "none.pt: no such file" in one_error(capsys)
    assert distill(tmp_path / "out", teacher="") == 2
    assert "--teacher: needs a" in one_error(capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-s", "en", "-t", "fr"], "--source-lang en --target-lang fr: .* holds en-de"),
        (["-s", "de", "-t", "en"], "translates en-de, but .* as de-en"),
        (["-s", "en"], "give both or none"),
    ],
)
def test_wrong_pair(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert distill(tmp_path / "out", *flags) == 2
    errors = capsys.readouterr().err.splitlines()
    assert re.search(message, errors[-1])


def test_dictionary_of_another_size(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy_of(tiny_corpus, tmp_path / "data")
    with (data / "dict.en.txt").open("a") as file:
        file.write("more 1\n")
    assert distill(tmp_path / "out", data=data) == 2
    assert "which has other symbols than" in capsys.readouterr().err


def test_out_is_the_data(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tiny_corpus)
    assert distill(tmp_path / "link") == 2
    assert "is the --data folder itself" in one_error(capsys)


def test_out_holds_other_files(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").touch()
    for flags in ([], ["--restart"]):
        assert distill(tmp_path, *flags) == 2
        assert "holds files that were not made here" in one_error(capsys)
    assert distill(tmp_path / "thesis.txt") == 2
    assert "is a file" in one_error(capsys)


def test_sampling_and_its_flags(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(tmp_path / "out", "--sampling", "--beam", "4") == 2
    assert "--sampling --beam 4: draws one translation a sentence; leave out --beam" in one_error(capsys)
    assert distill(tmp_path / "out", "--sampling-topk", "4") == 2
    assert "--sampling-topk 4: needs --sampling" in one_error(capsys)


def test_what_both_mixes_is_no_fallback(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        distill(tmp_path / "out", "--mix", "both", "--filtered-fallback", "raw", "--filter-repeats", "2") == 2
    )
    assert "--filtered-fallback raw: needs --mix distilled" in one_error(capsys)


def test_folders_above_are_told_from_what_is_not_there(
    distill: Distill, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distill(tmp_path / "out", "--teacher", str(tmp_path)) == 2
    assert f"is a folder; name a checkpoint in it, as {tmp_path}/checkpoint_best.pt" in one_error(capsys)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bin").symlink_to(tiny_corpus)
    assert distill(tmp_path / "out", data=tmp_path / "data") == 2
    assert f"no train.SRC-TGT.SRC.idx there; did you mean {tmp_path}/data/bin?" in one_error(capsys)


def test_restart_of_many_ranks(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(tmp_path / "out", "--restart", "--distributed-rank=0", "--distributed-world-size=2") == 2
    assert "--restart with several ranks" in one_error(capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam", "0"], "--beam 0: needs at least 1"),
        (["--workers", "two"], "argument --workers: 'two': needs a whole number"),
        (["--workers", "-1"], "--workers -1: needs at least 0"),
        (["--filter-ratio", "0.5"], "--filter-ratio 0.5: needs at least 1"),
        (["--temperature", "0"], "--temperature 0.0: needs at least 0.001"),
        (["--max-len-a", "inf"], "--max-len-a inf: needs a value from 0 to 100000"),
        (["--lenpen", "nan"], "--lenpen nan: needs a number"),
        (["--seed", "99999999999999999999"], "--seed 99999999999999999999: needs a value from 0 to"),
        (["--fp16", "--bf16"], "--fp16 --bf16: choose one of them"),
        (["--bf16", "--mixed-precision"], "--bf16 --mixed-precision: choose one of them"),
        (["--mix", "raw"], "--mix raw: needs one of distilled, both"),
        (["--temprature", "1"], "unknown option '--temprature'; did you mean --temperature?"),
    ],
)
def test_flags_out_of_range(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert distill(tmp_path / "out", *flags) == 2
    assert message in one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_every_flag_reaches_the_options(
    tiny_corpus: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    paths = ["--data", str(tiny_corpus), "--teacher", f"{tiny_teacher}:{tiny_teacher}", "--out", "o"]

    def parsed(flags: str) -> DistillOptions:
        return parse(DistillOptions, parser_of("distill"), [*paths, *flags.split()])

    found = parsed(
        "-s en -t de --user-dir u --beam 2 --lenpen .5 --unkpen 3 --max-len-a 1.5 --max-len-b 7"
        " --min-len 0 --no-repeat-ngram-size 4 --keep-empty --filter-copies --filter-ratio 2 --filter-unk"
        " --filter-repeats 3 --filtered-fallback raw --workers 2 --distributed-world-size 3"
        " --distributed-rank 1 --max-tokens 99 --batch-size 5 --chunk-size 11 --cpu --bf16"
    )
    assert found.teachers == (tiny_teacher, tiny_teacher)
    search = dict(beam=2, lenpen=0.5, unkpen=3, max_len_a=1.5, max_len_b=7, min_len=0)
    assert found.search() == options(**search, no_repeat_ngram_size=4).search()
    assert found.precision == "bf16"
    assert list(as_recorded(found).values()) == [False, 2, True, 3, True]
    assert (found.source_lang, found.target_lang, found.user_dir) == ("en", "de", Path("u"))
    assert (found.filtered_fallback, found.mix, found.restart, found.cpu) == ("raw", "distilled", False, True)
    assert (found.max_tokens, found.batch_size, found.chunk_size) == (99, 5, 11)
    assert (found.share.workers, found.share.world_size, found.share.rank) == (2, 3, 1)
    assert parsed("--restart").restart and parsed("--fp16").precision == "fp16"
    drawn = parsed("--sampling --sampling-topk 5 --temperature .7 --seed 3").search()
    chosen = {"beam": 1, "sampling": True, "sampling_topk": 5, "temperature": 0.7, "seed": 3}
    assert drawn == {**options().search(), **chosen}
    defaults = parsed("")
    assert defaults.search() == options().search() and as_recorded(defaults) == as_recorded(options())
    assert (defaults.search()["beam"], defaults.search()["sampling_topk"]) == (4, -1)
    assert (defaults.precision, defaults.share.world_size, defaults.share.workers) == ("fp32", 1, 1)


def test_plugin_that_is_not_there(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distill(tmp_path / "out", "--user-dir", "no-such-plugin") == 2
    assert "--user-dir no-such-plugin: no such folder" in capsys.readouterr().err.splitlines()[-1]
    broken = tmp_path / "broken_plugin"
    broken.mkdir()
    (broken / "__init__.py").write_text("import no_such_package\n")
    assert distill(tmp_path / "out", "--user-dir", str(broken)) == 2
    assert "broken_plugin: cannot be imported (No mod" in capsys.readouterr().err.splitlines()[-1]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert vqnat_distill("--help") == 0
    shown = capsys.readouterr().out
    for group in (
        "data and teacher:",
        "search:",
        "filters:",
        "mixing:",
        "machine:",
        "several machines or GPUs:",
    ):
        assert group in shown
