"""fairseq's own commands with the plugin loaded, in processes of their own as users run them."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import options
from tiny import STUDENT, TRAINING, parse, trainer

from vqnat_plugin import fairseq_commands
from vqnat_plugin.errors import CheckpointError, DataError, UsageError, UserError
from vqnat_plugin.launch import PLUGIN

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TASK = ("--user-dir", PLUGIN, "--task", "translation_vq", "--cpu")


def start(name: str, *words: str | Path, stdin: str = "") -> subprocess.Popen[str]:
    """A command of fairseq as pip installed it; each takes seconds to import, so several run side by side."""
    process = subprocess.Popen(
        [BIN / name, *map(str, words)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    return process


def success(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:] + output[-1000:]
    return output


def mistake(process: subprocess.Popen[str]) -> str:
    """The one line of a command that could not do its work."""
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 2, errors[-3000:] + output[-1000:]
    assert "Traceback" not in output + errors and errors.count("error:") == 1
    return errors.splitlines()[-1]


class Stranger:
    """Not among what a checkpoint may hold."""


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    torch.save({"model": Stranger()}, tmp_path / "stranger.pt")
    return tmp_path / "stranger.pt"


def test_validation_works_and_a_refused_checkpoint_is_one_line(
    tiny_corpus: Path, tiny_student: Path, refused: Path
) -> None:
    generate = start("fairseq-generate", tiny_corpus, "--path", refused, *TASK)
    batches = ("--max-tokens", "100", "--required-batch-size-multiple", "1")
    validate = start("fairseq-validate", tiny_corpus, "--path", tiny_student, *TASK, *batches)
    line = mistake(generate)
    assert line.startswith(f"fairseq-generate: error: {refused}: refused, because it refers to ")
    assert "valid on 'valid' subset" in success(validate)


@pytest.mark.slow
def test_interactive_score_and_preprocess(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    text = tiny_corpus.parent / "text"
    interactive = start(
        "fairseq-interactive", tiny_corpus, "--path", tiny_student, *TASK, *("-s", "en", "-t", "de"),
        stdin=(text / "train.en").read_text(),
    )  # fmt: skip
    source, target = f"{text / 'train.en'}", f"{text / 'train.de'}"
    preprocess = start(
        "fairseq-preprocess", *("--user-dir", PLUGIN, "--task", "translation_vq", "-s", "en", "-t", "de"),
        *("--trainpref", text / "train", "--destdir", tmp_path / "bin", "--joined-dictionary"),
    )  # fmt: skip
    found = [line.split("\t")[2] for line in success(interactive).splitlines() if line.startswith("D-")]
    expected = Path(target).read_text().splitlines()
    assert len(found) == len(expected) == 60
    assert sum(one == two for one, two in zip(found, expected, strict=True)) >= 0.9 * 60
    success(preprocess)
    assert (tmp_path / "bin" / "dict.de.txt").read_text() == (tiny_corpus / "dict.de.txt").read_text()
    (tmp_path / "sys").write_text("\n".join(found) + "\n")
    score = start("fairseq-score", "--sys", tmp_path / "sys", "--ref", target)
    no_path = start("fairseq-interactive", tiny_corpus, "--path", source, *TASK, "-s", "en", "-t", "de")
    assert "BLEU4 = " in success(score)
    assert f"{source}: truncated, or not a checkpoint" in mistake(no_path)


@pytest.mark.slow
def test_hydra_train(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "student.yaml").write_text(f"""# @package _group_
common: {{user_dir: '{PLUGIN}', cpu: true, seed: 1}}
task: {{_name: translation_vq, data: '{tiny_corpus}', source_lang: en, target_lang: de}}
model: {{_name: vq_nat_em, embed_dim: 32, ffn_dim: 64, attention_heads: 2, encoder_layers: 1,
         predictor_layers: 1, decoder_layers: 1, codebook_size: 16, compress_steps: 1}}
criterion: {{_name: vq_nat_loss}}
optimizer: {{_name: adam}}
lr_scheduler: {{_name: fixed}}
optimization: {{lr: [0.003], max_update: 4}}
dataset: {{max_tokens: 100, num_workers: 0}}
checkpoint: {{save_dir: '{tmp_path}', no_epoch_checkpoints: true}}
distributed_training: {{distributed_world_size: 1}}
hydra: {{run: {{dir: '{tmp_path}'}}}}
""")
    words = ("--config-dir", tmp_path, "--config-name", "student")
    trains = start("fairseq-hydra-train", *words)
    out_of_range = start("fairseq-hydra-train", *words, "model.codebook_size=0")
    success(trains)
    assert (tmp_path / "checkpoint_last.pt").is_file()
    assert mistake(out_of_range) == "fairseq-hydra-train: error: --codebook-size 0: needs at least 1"
    sizes = start("fairseq-hydra-train", *words, "model._name=vq_nat_em_tiny")
    half = start("fairseq-hydra-train", *words, "common.fp16=true")
    assert "model._name vq_nat_em_tiny: is for --arch only; give _name vq_nat_em" in mistake(sizes)
    assert "--fp16: trains on GPUs only" in mistake(half)


# Stands before a training as if nothing of these were installed.
WITHOUT_LOGGERS = """
import sys
sys.modules |= dict.fromkeys(['tensorboardX', 'tensorboard', 'torch.utils.tensorboard', 'wandb'])
sys.argv[0] = 'fairseq-train'
from fairseq_cli.train import cli_main
cli_main()
"""


@pytest.mark.slow
def test_loggers_that_are_not_installed_do_not_stop_a_training(tiny_corpus: Path, tmp_path: Path) -> None:
    words = (
        f"{tiny_corpus} --user-dir {PLUGIN} {STUDENT} {TRAINING} --log-format simple --max-update 2".split()
    )
    words += [
        "--save-dir",
        str(tmp_path),
        "--tensorboard-logdir",
        str(tmp_path / "logs"),
        "--wandb-project",
        "p",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOGGERS, *words], capture_output=True, text=True, timeout=500
    )
    assert ran.returncode == 0, ran.stderr
    assert all(f"{name} not found" in ran.stdout + ran.stderr for name in ("tensorboard", "wandb"))
    assert (tmp_path / "checkpoint_last.pt").is_file()


@pytest.mark.slow
def test_two_workers_say_a_mistake_once(tiny_corpus: Path, tmp_path: Path) -> None:
    words = f"train --workers 2 {tiny_corpus} --save-dir {tmp_path} {STUDENT} {TRAINING} --codebook-size 0"
    line = mistake(start("vqnat", *words.split()))
    assert line == "vqnat train: error: --codebook-size 0: needs at least 1"
    line = mistake(start("vqnat", *words.split(), "--lrr", "1"))
    assert line == "vqnat train: error: unrecognized arguments: --lrr 1 (see --fairseq-help)"
    line = mistake(start("vqnat", *words.split()[:-2], "--batch-tokens", "12"))
    assert line.startswith("vqnat train: error: --batch-tokens 12: leaves 6 for each of 2 workers, but the ")
    assert not list(tmp_path.glob("*.pt"))


# In this process.


def test_generate_command_adds_what_is_easily_forgotten(
    tiny_corpus: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vqnat_plugin.commands.main import main

    arguments = list(sys.argv)
    words = ["--path", str(tiny_student), "--cpu", "--max-len-b", "12"]
    assert main(["generate", str(tiny_corpus), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    # None is left out, though eight make a batch of fairseq's.
    assert sorted(line.split("\t")[0] for line in lines if line.startswith("D-")) == [
        f"D-{i}" for i in range(5)
    ]
    assert sys.argv == arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DATA"], "needs --path CHECKPOINT"),
        (["DATA", "--path"], "needs --path CHECKPOINT"),
        (["DATA", "--path", "none.pt"], "none.pt: no such checkpoint"),
        (["DATA", "--path=none.pt:more.pt", "--beam", "4"], "none.pt: no such checkpoint"),
    ],
)
def test_generate_command_needs_a_checkpoint(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    from vqnat_plugin.commands.main import main

    with pytest.raises(SystemExit) as ended:
        main(["generate", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"vqnat generate: error: {message}\n"


def test_generate_command_names_a_mistyped_option(
    tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vqnat_plugin.commands.main import main

    with pytest.raises(SystemExit) as ended:
        main(["generate", "DATA", "--path", str(tiny_student), "--baem", "4"])
    assert ended.value.code == 2
    line = "vqnat generate: error: unrecognized arguments: --baem 4 (see --fairseq-help)"
    assert capsys.readouterr().err.splitlines()[-1] == line


@pytest.mark.parametrize("flag", ["--fp16", "--bf16"])
def test_half_precision_trains_on_gpus_only(tiny_corpus: Path, flag: str) -> None:
    message = f"{flag}: trains on GPUs only; on a CPU use --amp"
    with pytest.raises(UsageError, match=message), trainer(tiny_corpus, flag):
        pass


def test_bf16_is_not_only_for_tpus() -> None:
    config = parse(f"DATA {STUDENT} {TRAINING} --bf16".split())
    assert config.common.bf16 and not config.common.tpu


def test_fully_sharded_training_is_refused_for_a_model_with_a_codebook() -> None:
    with pytest.raises(UsageError, match="--ddp-backend fully_sharded: not supported"):
        parse(f"DATA {STUDENT} {TRAINING} --ddp-backend fully_sharded".split())
    other = "DATA --task translation --arch transformer --optimizer adam --ddp-backend fully_sharded"
    assert parse(other.split()).distributed_training.ddp_backend == "fully_sharded"


def test_a_parser_may_come_through_twice() -> None:
    words = ["DATA", "--path", "c.pt", "--task", "translation_vq", "--max-tokens", "7"]
    for _ in range(2):
        parser = options.get_validation_parser()
        found = options.parse_args_and_arch(parser, words, suppress_defaults=True)
        assert vars(found)["max_tokens"] == 7 and "beam" not in vars(found)


@pytest.mark.parametrize(
    ("main", "script", "expected"),
    [
        ("fairseq_cli.hydra_train", "hydra_train.py", "fairseq-hydra-train"),
        ("vqnat_plugin.launch", "launch.py", "vqnat train"),
        (None, "/venv/bin/fairseq-eval-lm", "fairseq-eval-lm"),
        (None, r"fairseq-train.exe", "fairseq-train"),
        (None, "notebook.py", None),
        ("vqnat_plugin.commands.main", "main.py", None),
    ],
)
def test_only_fairseqs_commands_are_meant(
    monkeypatch: pytest.MonkeyPatch, main: str | None, script: str, expected: str | None
) -> None:
    spec = argparse.Namespace(name=main) if main else None
    monkeypatch.setitem(sys.modules, "__main__", argparse.Namespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", [script])
    assert fairseq_commands.program() == expected
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for name in ("error", "_get_value"):
        # These change too, until the process ends.
        monkeypatch.setattr(argparse.ArgumentParser, name, getattr(argparse.ArgumentParser, name))
    fairseq_commands.explain_errors()
    assert (sys.excepthook is not sys.__excepthook__) == (expected is not None)


def test_errors_of_other_processes_are_recognised() -> None:
    raised = (
        "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n"
        '  File "launch.py", line 1, in main\nvqnat_plugin.errors.CheckpointError: c.pt: truncated\n'
    )
    found = fairseq_commands.own_error(torch.multiprocessing.ProcessRaisedException(raised, 1, 7))
    assert isinstance(found, UserError) and str(found).strip() == "c.pt: truncated"
    # DataLoader raises the same kind again, with the traceback as its message.
    assert (
        str(fairseq_commands.own_error(DataError("Caught DataError\n" + raised))).strip() == "c.pt: truncated"
    )
    missing = FileNotFoundError("Dataset not found: test")
    assert str(fairseq_commands.own_error(missing)) == "Dataset not found: test"
    for other in (ValueError("vqnat_plugin.errors.DataError"), CheckpointError("c.pt: refused")):
        assert fairseq_commands.own_error(other) is other


def test_python_on_which_fairseq_cannot_run() -> None:
    fairseq_commands.require_python((3, 13))
    with pytest.raises(UserError, match=r"fairseq does not run on Python 3\.14: use 3\.10 to 3\.13"):
        fairseq_commands.require_python((3, 14))
