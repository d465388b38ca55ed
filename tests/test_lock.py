"""The files that CI installs: all of them pinned, in the versions that everybody gets."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "scripts" / "requirements-ci.txt").read_text().splitlines()
LINE = re.compile(r"([a-z0-9._-]+)==([a-z0-9.]+) --hash=sha256:[0-9a-f]{64}")


def locked() -> dict[str, str]:
    found = [LINE.fullmatch(line) for line in LOCK[1:]]
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def test_every_file_has_a_version_and_a_hash() -> None:
    assert LOCK[0] == "# Made by scripts/lock.py for Python 3.11 on Linux x86_64."
    assert len(locked()) == len(LOCK) - 1
    assert {"torch", "numpy", "ve-fairseq", "setuptools", "wheel", "pytest"} <= locked().keys()


def test_versions_are_those_of_the_constraints() -> None:
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    here = [
        each for each in pinned if each.marker is None or each.marker.evaluate({"python_version": "3.11"})
    ]
    expected = {canonicalize_name(each.name): str(each.specifier) for each in here}
    versions = locked()
    assert {name: f"=={versions[name]}" for name in expected} == expected


def test_ci_installs_nothing_else() -> None:
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("scripts/")
    ]
    assert commands[0] == "scripts/setup.sh --locked"
