import re
from collections.abc import Callable
from pathlib import Path

import pytest
from distilling import copy_of

from vqnat_plugin.commands.distill import build_parser, main, settings_from
from vqnat_plugin.distillation import Filters, Search

Distill = Callable[..., int]
PATHS = ["--data", "d", "--teacher", "t", "--out", "o"]


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The error message, which has to be one line."""
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("distill: error: ")
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
    assert "--teacher: needs a checkpoint" in one_error(capsys)


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


def test_restart_of_many_ranks(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(tmp_path / "out", "--restart", "--rank=0", "--world-size=2") == 2
    assert "--restart with several ranks" in one_error(capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam", "0"], "argument --beam: '0': needs a whole number from 1"),
        (["--workers", "two"], "argument --workers: 'two': needs a whole number from 1"),
        (["--filter-ratio", "0.5"], "argument --filter-ratio: '0.5': needs a number from 1"),
        (["--temperature", "0"], "argument --temperature: '0': needs a number from 0.001"),
        (["--max-len-a", "inf"], "argument --max-len-a: 'inf': needs a number from 0"),
        (["--fp16", "--bf16"], "not allowed with argument --fp16"),
        (["--mix", "raw"], "argument --mix: invalid choice: 'raw'"),
    ],
)
def test_flags_out_of_range(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as status:
        main([*PATHS, *flags])
    assert status.value.code == 2
    assert message in capsys.readouterr().err


def test_every_flag_reaches_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    flags = (
        "-s en -t de --user-dir u --restart --beam 2 --lenpen .5 --unkpen 3 --max-len-a 1.5 --max-len-b 7"
        " --min-len 0 --no-repeat-ngram-size 4 --keep-empty --filter-copies --filter-ratio 2 --filter-unk"
        " --filter-repeats 3 --filtered-fallback raw --mix both --workers 2 --world-size 3 --rank 1"
        " --max-tokens 99 --batch-size 5 --chunk-size 11 --cpu --bf16"
    )
    settings = settings_from(build_parser().parse_args([*PATHS, *flags.split()]))
    assert settings.search == Search(2, 0.5, 3, 1.5, 7, 0, 4, precision="bf16")
    assert settings.filters == Filters(False, 2, True, 3, True)
    assert (settings.source_lang, settings.target_lang, settings.user_dir) == ("en", "de", "u")
    assert (settings.fallback, settings.mix, settings.restart, settings.cpu) == ("raw", "both", True, True)
    assert (settings.max_tokens, settings.batch_size, settings.chunk_size) == (99, 5, 11)
    share = settings.share
    assert (share.workers, share.world_size, share.rank) == (2, 3, 1)
    samples = "--sampling --sampling-topk 5 --temperature .7 --seed 3"
    search = settings_from(build_parser().parse_args([*PATHS, *samples.split()])).search
    assert search == Search(beam=1, sampling=True, sampling_topk=5, temperature=0.7, seed=3)
    defaults = settings_from(build_parser().parse_args(PATHS))
    assert defaults.search == Search() and defaults.filters == Filters() and defaults.share.world_size == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["--help"])
    assert status.value.code == 0
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
