"""fairseq's commands without `--user-dir`: Hydra brings the plugin in, and leaves other programs alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest


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


def test_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
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
