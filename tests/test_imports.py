"""Each module can be the first that is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vqnat_plugin"
FIRST = ("generation.rescoring", "export.run", "models.vq_nat", "tasks.translation_vq", "evaluation.bleu")
PROGRAM = """
import importlib, os, sys

import fairseq
import torch

for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, name
"""


@pytest.mark.parametrize("names", [FIRST, pytest.param((), marks=pytest.mark.slow)])
def test_a_module_can_be_the_first(names: tuple[str, ...]) -> None:
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    everything = (".".join(path.parts) for path in files if not path.name.startswith("__"))
    modules = [f"vqnat_plugin.{name}" for name in names or everything]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
