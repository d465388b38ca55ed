"""The model that comes along translates, is small, and names where its data is from."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "own_corpus"


def test_the_third_command_of_the_readme() -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("echo ")]
    command = line.replace(".venv/bin/vqnat", f"{shlex.quote(sys.executable)} -m vqnat_plugin")
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "Wo ist der Bahnhof?\n"), done.stderr


def test_it_is_small_and_its_data_is_named() -> None:
    assert sum(path.stat().st_size for path in (FOLDER / "model").rglob("*")) <= 16e6
    text = (FOLDER / "MODEL.md").read_text()
    assert "https://tatoeba.org" in text and "https://creativecommons.org/licenses/by/2.0/fr/" in text
