#!/usr/bin/env python3
"""Write scripts/requirements-ci.txt: all packages that CI installs, with the SHA-256 of each file.

Run it with the Python that CI has, on the same kind of machine, when scripts/constraints.txt or setup.cfg has
changed: `.venv/bin/python scripts/lock.py`. Nothing is installed. `scripts/setup.sh --locked` installs just
these files. Which of them have known vulnerabilities, pip-audit knows, in an environment of its own:

  pip install pip-audit && pip-audit --disable-pip --require-hashes -r scripts/requirements-ci.txt
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vqnat_plugin.files import write_lines

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "scripts" / "requirements-ci.txt"
# As scripts/setup.sh has it; what builds our own package, and what is sent without a wheel, is in it too.
WANTED = ("torch", "torchvision", "numpy", "setuptools", "wheel", ".[dev]")
FAIRSEQ = "ve-fairseq==0.12.3"


def resolve(*words: str) -> list[dict[str, Any]]:
    """What pip would install, each with the file that it would fetch."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", str(report), *words], cwd=ROOT, check=True)
        found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return found


def main() -> None:
    found = resolve("--constraint", "scripts/constraints.txt", *WANTED) + resolve("--no-deps", FAIRSEQ)
    lines = []
    for package in found:
        # Our own is a folder.
        if "archive_info" in package["download_info"]:
            name, version = package["metadata"]["name"].lower(), package["metadata"]["version"]
            digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} --hash=sha256:{digest}")
    version = ".".join(platform.python_version_tuple()[:2])
    machine = f"Python {version} on {platform.system()} {platform.machine()}"
    write_lines(LOCK, [f"# Made by scripts/lock.py for {machine}.", *sorted(lines)])


if __name__ == "__main__":
    main()
