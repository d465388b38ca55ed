"""Short ways to distil with the tiny teacher."""

from collections.abc import Callable
from pathlib import Path

import pytest
from distilling import vqnat_distill


@pytest.fixture
def distill(tiny_corpus: Path, tiny_teacher: Path) -> Callable[..., int]:
    """Run the command in this process, on the tiny corpus and teacher unless told otherwise.

    Returns:
        The exit status.
    """

    def run(out: Path, *flags: str, data: Path = tiny_corpus, teacher: Path | str = tiny_teacher) -> int:
        paths = ["--data", str(data), "--teacher", str(teacher), "--out", str(out)]
        return vqnat_distill(*paths, "--chunk-size", "8", "--cpu", *flags)

    return run


@pytest.fixture(scope="session")
def distilled(tiny_corpus: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the tiny corpus, in chunks of 8 sentences and without any filter."""
    out = tmp_path_factory.mktemp("distilled") / "out"
    paths = ["--data", str(tiny_corpus), "--teacher", str(tiny_teacher), "--out", str(out)]
    assert vqnat_distill(*paths, "--chunk-size", "8", "--cpu") == 0
    return out
