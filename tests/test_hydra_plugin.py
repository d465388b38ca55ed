"""fairseq's commands without `--user-dir`: Hydra brings the plugin in, and leaves other programs alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqnat_plugin.launch import PLUGIN


def generate(data: Path, checkpoint: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """fairseq-generate as it is installed, in some folder."""
    program = Path(sys.executable).with_name("fairseq-generate")
    words = [program, data, "--path", checkpoint, "--cpu", "--required-batch-size-multiple", "1", *flags]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_model_of_ours_is_known(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    done = generate(tiny_corpus, tiny_student, tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("fairseq-generate: error: ") and "cannot be driven by --task translation" in line
    assert "--user-dir" in line and "--task translation_vq" in line


def test_a_teacher_decodes_as_before(tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    done = generate(tiny_corpus, tiny_teacher, tmp_path, "--beam", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum(line.startswith("H-") for line in done.stdout.splitlines()) == 5


def test_other_programs_are_left_alone() -> None:
    program = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance()\n"
        "assert 'hydra_plugins.vqnat' in sys.modules\n"
        "assert not {'vqnat_plugin', 'fairseq', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_copy_that_is_loaded_already_is_enough() -> None:
    """Here fairseq and the plugin are loaded: nothing is registered a second time."""
    from fairseq import utils

    import vqnat_plugin.compat  # noqa: F401

    before = utils.import_user_module
    importlib.reload(importlib.import_module("hydra_plugins.vqnat"))
    assert utils.import_user_module is before


def test_the_copy_that_the_user_names_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = importlib.import_module("hydra_plugins.vqnat")
    loaded: list[str] = []
    monkeypatch.setattr(importlib, "import_module", loaded.append)
    plugin.with_ours(loaded.append)("the user's")
    assert loaded == ["the user's", "vqnat_plugin"]


@pytest.mark.slow
def test_hydra_train_needs_no_user_dir_and_takes_a_link(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "student.yaml").write_text(f"""# @package _group_
common: {{cpu: true}}
task: {{_name: translation_vq, data: '{tiny_corpus}', source_lang: en, target_lang: de}}
model: {{_name: vq_nat_em, embed_dim: 32, ffn_dim: 64, attention_heads: 2, codebook_size: 16}}
criterion: {{_name: vq_nat_loss}}
optimizer: {{_name: adam}}
lr_scheduler: {{_name: fixed}}
optimization: {{lr: [0.003], max_update: 2}}
dataset: {{max_tokens: 100, num_workers: 0}}
checkpoint: {{no_save: true}}
distributed_training: {{distributed_world_size: 1}}
hydra: {{run: {{dir: '{tmp_path}'}}}}
""")
    (tmp_path / "vqnat_plugin").symlink_to(PLUGIN)
    program = Path(sys.executable).with_name("fairseq-hydra-train")
    words = [program, "--config-dir", tmp_path, "--config-name", "student"]
    for more in [], [f"+common.user_dir={tmp_path / 'vqnat_plugin'}"]:
        done = subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "done training" in done.stdout, done.stderr[-2000:]
