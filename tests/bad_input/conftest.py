"""A server that commands run on, and what they are given."""

from collections.abc import Iterator
from pathlib import Path

import malformed_files
import pytest
from malformed import Things
from refusals import Warm

assert malformed_files, "registers what it makes"


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    server = Warm(tmp_path_factory.mktemp("warm"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def things(warm: Warm, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(warm, tmp_path_factory.mktemp("things"), tiny_corpus)
