"""Options that fairseq evaluates: literals are what they were, and nothing runs."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from fairseq import utils
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin import compat
from vqnat_plugin.errors import CheckpointError
from vqnat_plugin.models.checkpoints import AUTOREGRESSIVE, Checkpoint
from vqnat_plugin.plain_expression import MOST, evaluate

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain)
def test_literals_are_what_they_are(value: object) -> None:
    assert evaluate(f" {value!r} ") == value == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    "text",
    [
        "[(512, 3)] * 4 + [(1024, 1)]",
        "3 * [(2, 1)] + [(4, 4)] * 2",
        "(0.9, 0.98)",
        "10000,20000",
        "-1",
        "True",
        "'a' * 3",
    ],
)
def test_sums_and_repetitions_are_those_of_python(text: str) -> None:
    assert evaluate(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getpid()",
        "[print(1)]",
        "[x for x in (1, 2)]",
        "().__class__",
        "1 if True else 2",
        "f'{print(1)}'",
        "lambda: 1",
        "2 ** 99",
        "[0] * 99999",
        "99999 * (1, 2)",
        "[0] * 9000 + [0] * 9000",
        "[" * 3000,
        "1 +",
        "",
        "[1] + 2",
        f"{'1' * MOST}0",
        None,
    ],
)
def test_everything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"no plain value"):
        evaluate(text)


def test_fairseq_has_no_other() -> None:
    assert compat
    calls = re.compile(r"(?<![.\w])eval\(")
    importlib.import_module("fairseq.data.data_utils_fast")
    modules = {name: vars(module) for name, module in [*sys.modules.items()] if name.startswith("fairseq.")}
    sources = {name: Path(names.get("__file__") or "") for name, names in modules.items()}
    evaluating = {
        name: modules[name]
        for name, source in sources.items()
        if source.suffix == ".py" and calls.search(source.read_text(encoding="utf-8"))
    }
    assert {"fairseq.utils", "fairseq.models.fconv", "fairseq.optim.adam"} <= evaluating.keys()
    assert [name for name, names in evaluating.items() if names.get("eval") is not evaluate] == []
    assert utils.eval_str_list("1,2", int) == [1, 2] and utils.eval_bool("False") is False


def test_a_checkpoint_cannot_say_what_is_run(tiny_teacher: Path, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "forged.pt"
    state = torch.load(tiny_teacher)
    state["cfg"]["model"].adaptive_softmax_cutoff = f"[open({str(ran)!r}, 'w').close()]"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="is no plain value"):
        Checkpoint(path, AUTOREGRESSIVE).build()
    assert not ran.exists()
