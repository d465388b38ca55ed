"""Text is cut between sentences, and nothing of it is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.text.languages import between_sentences
from vqnat_plugin.text.sentences import halves, sentences


@pytest.mark.parametrize(
    ("language", "found"),
    [
        ("en", ["Mr. Smith paid $3.50 on Jan. 5.", "Is it so?", "Yes..."]),
        ("de-AT", ["Dr. Müller kam z. B. am 3. Oktober.", "Er schlief!"]),
        ("deu", ["Er kam am 3. Oktober an.", "Er schlief!"]),
        ("hi", ["वह आया।", "वह गई।"]),
        ("ar", ["جاء الرجل.", "هل ذهب؟", "نعم."]),
        ("zh", ["他来了。", "她走了！", "真的吗？"]),
        ("ja", ["彼は来た。", "本当？"]),
    ],
)
def test_sentences_of_many_languages(language: str, found: list[str]) -> None:
    assert sentences(between_sentences(language).join(found), language) == found


def test_what_belongs_together_stays_together() -> None:
    assert sentences("1. First. 2. Second. ...", "en") == ["1. First.", "2. Second.", "..."]


@pytest.mark.parametrize("blank", ["\u00a0", "\u202f", "\u3000", "\u2009", "\u0085", "\u2028"])
def test_odd_blanks_are_blanks(blank: str) -> None:
    assert sentences(f"Plan A{blank}. Then B.", "en") == sentences("Plan A . Then B.", "en")


@given(st.text(), st.sampled_from(["en", "de", "zh", "hi", "th"]))
def test_no_character_is_lost(text: str, language: str) -> None:
    found = sentences(text, language)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(found)


@given(st.text(st.sampled_from("ab猫 ,，"), min_size=2).map(str.strip).filter(lambda text: len(text) > 1))
def test_halves_are_smaller_and_cut_between_words(text: str) -> None:
    one, two = halves(text)
    assert one and two and "".join((one + two).split()) == "".join(text.split())
    if " " in text and "，" not in text:
        assert (one + " " + two).split() == text.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one two, three four five six", ("one two,", "three four five six")),
        ("one, two three four five six", ("one, two three", "four five six")),
        ("it is 1,000,000 words in all", ("it is 1,000,000", "words in all")),
        ("我们去公园，然后回家吧", ("我们去公园，", "然后回家吧")),
        ("one two three, four, five six", ("one two three,", "four, five six")),
        ("我，们去公园然后回家吧", ("我，", "们去公园然后回家吧")),
        ("ab", ("a", "b")),
    ],
)
def test_halves_are_clauses_where_they_can(text: str, found: tuple[str, str]) -> None:
    assert halves(text) == found


def test_blanks_between_sentences_are_those_of_the_script() -> None:
    assert [between_sentences(code) for code in ("de", "zh", "zh-Hant", "ja", "ko", "th")] == [
        " ",
        "",
        "",
        "",
        " ",
        " ",
    ]
