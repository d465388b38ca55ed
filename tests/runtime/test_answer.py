"""Which code wrote which words, where a character takes several of them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from vqnat_plugin.runtime.answer import describe
from vqnat_plugin.runtime.hypotheses import Hypothesis

PIECES = [b"", b"", b"", b"", b" A", b"\xe2", b"\x98", b"\x83", b" B", b" C"]


def translator(steps: int) -> Any:
    """With byte pieces, whose halves of a character are shown as such."""

    def text(tokens: Sequence[int]) -> str:
        return b"".join(PIECES[token] for token in tokens).decode(errors="replace").strip()

    def decode(tokens: Sequence[int]) -> list[str]:
        return [str(token) for token in tokens]

    exported = SimpleNamespace(sizes={"compress_steps": steps})
    return SimpleNamespace(exported=exported, text=text, target=SimpleNamespace(decode=decode))


@pytest.mark.parametrize(
    ("steps", "groups"),
    [(1, ["A☃ ", "", "B C"]), (2, ["A☃ ", "B C"]), (3, ["A☃ B C"]), (0, ["A", "☃ ", "", "", "B ", "C"])],
)
def test_pieces_of_a_character_do_not_move_what_is_behind(steps: int, groups: list[str]) -> None:
    codes = list(range(len(groups)))
    shown = describe(translator(steps), Hypothesis([4, 5, 6, 7, 8, 9, 2], -1.0, codes, 0))
    assert shown["text"] == "A☃ B C"
    assert [group["text"] for group in shown["groups"]] == groups


def test_no_words_are_shown_twice_where_more_of_them_make_less_text() -> None:
    entity = translator(0)
    shown = {(4,): "&#12", (4, 5): "|", (4, 5, 6): "| a"}
    entity.text = lambda tokens: shown[tuple(tokens)]
    groups = describe(entity, Hypothesis([4, 5, 6, 2], -1.0, [0, 1, 2], 0))["groups"]
    assert "".join(group["text"] for group in groups) == "| a"
