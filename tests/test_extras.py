"""What each extra has to bring: translation goes without the packages of images, plots and engines."""

import subprocess
import sys

OTHERS = ("torchvision", "PIL", "skimage", "matplotlib", "onnx", "onnxruntime", "ctranslate2", "starlette")
COMMANDS = ("prepare", "train", "distill", "generate", "score", "diagnose", "inspect", "average", "stage")


def test_translation_needs_no_other_extra() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OTHERS}))\n"
        "import vqnat_plugin.compat\n"
        "from vqnat_plugin.models.vq_nat import VQNAT\n"
        "from vqnat_plugin.commands.main import load\n"
        f"for name in {COMMANDS}: load(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
