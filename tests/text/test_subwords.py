"""Sub-words."""

import pytest

from vqnat_plugin.text import subwords
from vqnat_plugin.text.subwords import BPE, learn_merges


def test_memory_does_not_grow_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "KEPT_WORDS", 10)
    bpe = BPE(learn_merges(["low lower lowest"] * 3, 10))
    first = bpe.split(["lowest"])
    for number in range(100):
        bpe.split([f"low{number}", "lower"])
    assert len(bpe._merges.cache) <= 12
    assert bpe.split(["lowest"]) == first


@pytest.mark.parametrize("letter", ["l", "x"])
def test_tokens_beyond_all_words_are_cut_before_they_are_merged(letter: str) -> None:
    bpe = BPE(learn_merges(["low lll"] * 3, 10))
    token = letter * (2 * subwords.MOST_MERGED + 7)
    pieces = bpe.split(["low", token, "", "low"])
    assert BPE.join(pieces) == ["low", token, "low"]
    # Nothing is merged across, and what is merged is what it always was.
    alone = bpe.split([letter * subwords.MOST_MERGED])
    assert pieces[1 : 1 + len(alone)] == [*alone[:-1], alone[-1] + "@@"]
    assert max(map(len, bpe._merges.cache)) == subwords.MOST_MERGED


@pytest.mark.parametrize(("lines", "merges"), [(["a a a", "a"], 0), (["ab ab ab"], 1), (["", " "], 0)])
def test_a_text_of_one_kind_of_token_has_few_merges(lines: list[str], merges: int) -> None:
    found = learn_merges(lines, 10)
    assert max(0, len(found.splitlines()) - 1) == merges
