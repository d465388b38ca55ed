#!/usr/bin/env python3
"""What a wheel has to hold, and what has to work where it is installed; see test_wheel.sh."""

import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds that the quantiser may cost on top of torch.
IMPORT_LIMIT = 0.2
# Every kind of quantiser, compiled as a whole.
COMPILED = """
import torch
from vqnat_plugin.bottleneck import Settings, build, kinds
for kind in kinds():
    torch._dynamo.reset()
    quantizer = build(kind, Settings(codebook_size=64, dim=8))
    z = torch.randn(2, 50, 8)
    quantizer.initialize_codebook(z)
    forward = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    update = torch.compile(lambda: quantizer.update_codebook(), fullgraph=True, backend="aot_eager")
    quantized, codes, loss = forward(z)
    update()
"""


def check_files(folder: Path) -> None:
    """Every file of the packages is in the wheel, and in the sdist."""
    files = {
        str(path.relative_to(ROOT))
        for package in ("vqnat_plugin", "hydra_plugins")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as tar:
        in_wheel = set(archive.namelist())
        in_sdist = {name.partition("/")[2] for name in tar.getnames()}
    for held, what in ((in_wheel, wheel), (in_sdist, sdist)):
        if missing := files - held:
            sys.exit(f"check_wheel: {what.name} lacks {min(missing)}")
        if not any(Path(name).name == "LICENSE" for name in held):
            sys.exit(f"check_wheel: {what.name} lacks LICENSE")


def run(*command: str | Path, status: int = 0) -> str:
    """What a command prints; its status has to be as expected, and nothing may be a traceback."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd="/", timeout=300, check=False
    )
    if done.returncode != status or "Traceback" in done.stderr:
        sys.exit(
            f"check_wheel: {command}: status {done.returncode}, needs {status}\n{done.stdout}{done.stderr}"
        )
    return done.stdout if status == 0 else done.stderr


def check_environment(programs: Path) -> None:
    """The command, the README's example of the quantiser, and one line on what is missing."""
    python, vqnat = programs / "python", programs / "vqnat"
    assert run(vqnat, "--help") == run(python, "-m", "vqnat_plugin", "--help")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    (example,) = [block for block in blocks if "EMVectorQuantizer" in block]
    run(python, "-c", example)
    for path in sorted((ROOT / "examples" / "bottleneck").glob("*.py")):
        run(python, path)
    run(python, "-c", COMPILED)
    costs = (
        "import torch, time, sys; start = time.process_time(); import vqnat_plugin.bottleneck;"
        "print(time.process_time() - start);"
        "assert not {'fairseq', 'torchvision', 'matplotlib', 'tqdm'} & sys.modules.keys()"
    )
    seconds = min(float(run(python, "-c", costs)) for _ in range(3))
    if seconds > IMPORT_LIMIT:
        sys.exit(f"check_wheel: importing the quantiser costs {seconds:.2f} s on top of torch")
    for command, *words in (
        ("train", "--arch", "vq_nat_em", "--max-tokens", "9"),
        ("generate", "--path", ROOT / "README.md"),
    ):
        (line,) = run(vqnat, command, "data", *words, status=2).splitlines()
        if "pip install --no-deps ve-fairseq" not in line:
            sys.exit(f"check_wheel: vqnat {command} says {line!r}")


def check_translation(programs: Path) -> None:
    """From text to translations with the extra `translation` and fairseq alone."""
    vqnat, pair = programs / "vqnat", ("--source-lang", "en", "--target-lang", "de")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, out = folder / "data", folder / "student"
        corpus = ROOT / "examples" / "quickstart" / "toy_corpus.py"
        few = ("--train", "500", "--valid", "20", "--test", "20")
        run(programs / "python", corpus, "--out", folder / "text", *few)
        run(vqnat, "prepare", "--data", folder / "text", "--out", data, *pair, "--merges", "300")
        words = "--task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam"
        limits = "--batch-tokens 500 --max-update 2 --unquantized-updates 1 --no-epoch-checkpoints"
        run(vqnat, "train", data / "bin", *words.split(), *limits.split(), "--save-dir", out)
        source = data / "reference" / "test.en"
        found = run(vqnat, "generate", "--path", out / "checkpoint_best.pt", "--input", source)
        if len(found.splitlines()) != 20:
            sys.exit(f"check_wheel: 20 sentences became {len(found.splitlines())}")


if __name__ == "__main__":
    start = time.monotonic()
    kind, *paths = sys.argv[1:]
    if kind == "quantiser":
        check_files(Path(paths[0]))
        check_environment(Path(paths[1]))
        what = "files, command, quantiser and messages are right"
    else:
        check_translation(Path(paths[0]))
        what = "its extra 'translation' trains and translates"
    print(f"wheel: {what} ({time.monotonic() - start:.0f} s)")
