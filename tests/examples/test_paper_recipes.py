"""The recipes in the paper's setting: the options of their trainings, and (slow) every stage on a slice."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from archives import iwslt14, wmt14
from dry_run import EXAMPLES, dry_run, value
from fairseq import options

import vqnat_plugin.compat  # noqa: F401
from vqnat_plugin import launch
from vqnat_plugin.commands.main import main
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_nat_config import VQNATConfig

RECIPES = {"wmt14_en_de": ("en", "de", wmt14), "iwslt14_de_en": ("de", "en", iwslt14)}


def recipe_commands(name: str, *flags: str, **environment: str) -> dict[str, list[str]]:
    """The commands of a recipe by subcommand or program, trainings by the model: 'teacher', 'student'."""
    found = {}
    for command in dry_run(EXAMPLES / name / "run.sh", *flags, **environment):
        program = command[1] if command[0] in ("vqnat", "python") else command[0]
        found[Path(value(command, "--save-dir") if "train" in command else program).stem] = command
    return found


def started(command: list[str], gpus: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The options with which a training starts on a machine with so many GPUs."""
    workers: list[list[str]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(launch, "run_workers", lambda commands, environment: workers.extend(commands) or 0)
    assert main(command[1:]) == 0
    arguments = workers[0][workers[0].index("vqnat_plugin.launch") + 1 :]
    return options.parse_args_and_arch(options.get_training_parser(), arguments)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("gpus", [0, 4])
def test_the_setting_is_the_papers(name: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = recipe_commands(name)
    teacher, student = (started(commands[model], gpus, monkeypatch) for model in ("teacher", "student"))
    for model in (teacher, student):
        assert (model.optimizer, model.adam_betas, model.adam_eps) == ("adam", "(0.9,0.997)", 1e-9)
        assert (model.lr_scheduler, model.warmup_updates, model.clip_norm) == ("inverse_sqrt", 4000, 0.0)
        assert (model.fp16, model.amp, model.ddp_backend) == (gpus > 0, gpus == 0, "legacy_ddp")
        assert model.required_batch_size_multiple == 1
        assert [model.source_lang, model.target_lang] == list(RECIPES[name][:2])
    assert student.lr == [1.4e-3]
    student = complete(VQNATConfig, student)
    assert (student.embed_dim, student.ffn_dim, student.attention_heads) == (512, 4096, 4)
    assert student.encoder_layers == student.predictor_layers == student.decoder_layers == 6
    assert (student.codebook_size, student.compress_steps, student.em_samples) == (4096, 3, 10)
    assert (student.em_decay, student.em_temperature, student.bottleneck) == (0.999, 1.0, "em")
    assert student.label_smoothing == 0.0 and student.init_from_teacher is None
    assert (teacher.encoder_embed_dim, teacher.encoder_ffn_embed_dim, teacher.encoder_layers) == (
        512,
        2048,
        6,
    )
    assert teacher.encoder_normalize_before and teacher.decoder_normalize_before
    assert teacher.criterion == "label_smoothed_cross_entropy" and teacher.label_smoothing == 0.1
    assert "--mixed-precision" in commands["distill"] and value(commands["distill"], "--workers") == "0"


def test_no_code_is_replaced_while_averaged_checkpoints_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RECIPES:
        student = started(recipe_commands(name)["student"], 1, monkeypatch)
        averaged = student.keep_interval_updates * student.save_interval_updates
        assert student.unquantized_updates < student.code_revival_until < student.max_update - averaged
        assert student.code_revival_until == student.max_update * 2 // 3
        kept = int(value(recipe_commands(name)["average"], "--num-update-checkpoints"))
        assert kept == student.keep_interval_updates


def test_smaller_batches_make_up_the_same_one() -> None:
    whole = recipe_commands("wmt14_en_de")["student"]
    parts = recipe_commands("wmt14_en_de", UPDATE_FREQ="4")["student"]
    found = [
        [int(value(words, name)) for name in ("--batch-tokens", "--update-freq")] for words in (whole, parts)
    ]
    assert found == [[16384, 1], [4096, 4]]


@pytest.mark.parametrize("name", RECIPES)
def test_downloads_are_what_the_corpus_is_made_of(tmp_path: Path, name: str) -> None:
    download = recipe_commands(name, "--download")["wget"]
    urls = [word for word in download if "://" in word]
    RECIPES[name][2](tmp_path / "archives")
    assert sorted(url.rpartition("/")[2] for url in urls) == sorted(
        path.name for path in (tmp_path / "archives").iterdir()
    )
    assert all(url.startswith("https://") for url in urls)


@pytest.mark.parametrize("name", RECIPES)
def test_text_needs_no_archives(tmp_path: Path, name: str) -> None:
    source = RECIPES[name][0]
    (tmp_path / f"train.{source}").touch()
    commands = recipe_commands(name, "--data", str(tmp_path))
    assert "corpora" not in commands and value(commands["prepare"], "--data") == str(tmp_path)
    commands = recipe_commands(name, "--data", "x", "--out", "o")
    assert value(commands["corpora"], "--out") == value(commands["prepare"], "--data")
    assert value(commands["prepare"], "--data").endswith("o/corpus")


@pytest.mark.parametrize("name", RECIPES)
def test_check_is_small_and_apart(name: str) -> None:
    commands = recipe_commands(name, "--check", "--download", "--out", "/some/out")
    for model in ("teacher", "student"):
        assert value(commands[model], "--max-update") == "8"
        assert value(commands[model], "--save-dir") == f"/some/out/check/training/{model}"
    assert value(commands["wget"], "--directory-prefix") == "/some/out/archives"
    assert value(commands["prepare"], "--data") == "/some/out/check/slice"
    assert value(commands["compare"], "--title").startswith("Check: ")


@pytest.mark.parametrize("name", RECIPES)
def test_data_has_to_be_named(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [EXAMPLES / name / "run.sh", "--out", tmp_path / "out", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(f"needs --data DIR or --download (see {EXAMPLES}/{name}/run.sh --help)\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_runs(tmp_path: Path, name: str) -> None:
    source, target, write = RECIPES[name]
    write(tmp_path / "archives", 700, 20)
    command = [
        EXAMPLES / name / "run.sh",
        "--data",
        tmp_path / "archives",
        "--out",
        tmp_path,
        "--check",
    ]
    first = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    out = tmp_path / "check"
    report = json.loads((out / "report.json").read_text())
    assert len(report["systems"]) == 5
    for system in report["systems"].values():
        assert (
            system["sentences"] == 16
            and system["signature"]
            and system["latency_ms"]["batch_1"]["median"] > 0
        )
    assert report["latents"]["usage"] > 0
    assert {f"train.{source}", f"test.{target}"} <= {path.name for path in (out / "corpus").iterdir()}
    assert re.search(r"vqnat average .*--num-update-checkpoints 2", "\n".join(report["commands"]))

    # A second run finds everything done.
    again = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0
    assert "== student: done before" in again.stdout
