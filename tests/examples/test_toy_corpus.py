import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
sys.path.insert(0, str(QUICKSTART))

from toy_corpus import MAX_WORDS, MIN_WORDS, THAT, Example, generate, write_corpus  # noqa: E402
from toy_grammar import (  # noqa: E402
    STYLES,
    Clause,
    NounPhrase,
    Sentence,
    Style,
    english,
    german,
    translations,
)
from toy_lexicon import (  # noqa: E402
    ADJECTIVES,
    CONJUNCTIONS,
    MODALS,
    NOUNS,
    PREPOSITIONS,
    SPEECH_VERBS,
    TIMES,
    VERBS,
    Noun,
    Phrase,
    Verb,
)

SCRIPT = QUICKSTART / "toy_corpus.py"
FURTHER = [f"test.de.{number}" for number in range(1, 12)]
SIZES = {"test": 60, "valid": 40, "train": 400}
PLAIN, FORMAL, COLLOQUIAL = range(3)


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Example]]:
    return generate(1, SIZES)


def noun(name: str) -> Noun:
    return next(noun for noun in NOUNS if noun.singular == name)


def verb(name: str) -> Verb:
    return next(verb for verb in [*VERBS, *SPEECH_VERBS] if verb.base == name)


def phrase(name: str, phrases: list[Phrase]) -> Phrase:
    return next(phrase for phrase in phrases if phrase.english == name)


def adjective(name: str) -> Phrase:
    return phrase(name, [adjective for group in ADJECTIVES.values() for adjective in group])


def style(register: int = PLAIN, perfect: bool = False, fronted: bool = False) -> Style:
    return Style(register, perfect, fronted)


WE = NounPhrase("we", plural=True)
OLD_WOMAN = NounPhrase("the", False, noun("woman"), adjective("old"))
MEN = NounPhrase("the", True, noun("man"))
CAR = NounPhrase("a", False, noun("car"), adjective("small"))
BUY = Sentence(
    Clause(OLD_WOMAN, verb("buy"), True, (CAR,), time=phrase("yesterday", TIMES["past"])),
)
INVITE = Sentence(
    Clause(MEN, verb("invite"), True, (NounPhrase("no", True, noun("child")),)),
    phrase("because", CONJUNCTIONS["past"]),
    Clause(WE, verb("arrive"), True, place=(PREPOSITIONS[0], NounPhrase("the", False, noun("house")))),
)
HELP = Sentence(
    Clause(NounPhrase("he", False), verb("believe"), False),
    THAT,
    Clause(
        MEN, verb("help"), False, (NounPhrase("two", True, noun("child"), adjective("young")),), modal="must"
    ),
)
GIVE = Sentence(
    Clause(
        NounPhrase("every", False, noun("girl"), relative=Clause(None, verb("fetch"), False, (MEN,))),
        verb("give"),
        False,
        (
            NounPhrase("our", True, noun("nurse")),
            NounPhrase("this", False, noun("letter"), adjective("tired")),
        ),
        time=phrase("often", TIMES["present"]),
    )
)


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (BUY, "The old woman bought a small car yesterday."),
        (INVITE, "The men invited no children because we arrived in the house."),
        (HELP, "He believes that the men must help two young children."),
        (GIVE, "Every girl who fetches the men gives our nurses this tired letter often."),
    ],
)
def test_english(sentence: Sentence, text: str) -> None:
    assert english(sentence) == text


@pytest.mark.parametrize(
    ("sentence", "style", "text"),
    [
        (BUY, style(), "Die alte Frau kaufte gestern ein kleines Auto."),
        (BUY, style(fronted=True), "Gestern kaufte die alte Frau ein kleines Auto."),
        (BUY, style(FORMAL, perfect=True), "Die alte Dame hat gestern einen kleinen Wagen erworben."),
        (BUY, style(COLLOQUIAL, True, True), "Gestern hat die alte Frau eine winzige Karre gekauft."),
        (INVITE, style(), "Die Männer luden keine Kinder ein, weil wir im Haus ankamen."),
        (INVITE, style(fronted=True), "Weil wir im Haus ankamen, luden die Männer keine Kinder ein."),
        (
            INVITE,
            style(FORMAL, perfect=True),
            "Die Männer haben keine Kinder eingeladen, da wir im Gebäude eingetroffen sind.",
        ),
        (INVITE, style(COLLOQUIAL), "Die Kerle luden keine Knirpse ein, weil wir in der Bude ankamen."),
        (HELP, style(), "Er glaubt, dass die Männer zwei jungen Kindern helfen müssen."),
        (
            HELP,
            style(FORMAL, fronted=True),
            "Er vermutet, dass die Männer zwei junge Kinder unterstützen müssen.",
        ),
        (
            GIVE,
            style(),
            "Jedes Mädchen, das die Männer abholt, gibt oft unseren Pflegerinnen diesen müden Brief.",
        ),
        (
            GIVE,
            style(FORMAL, fronted=True),
            "Häufig überreicht jedes Mädchen, das die Männer abholt, unseren Pflegekräften "
            "dieses ermattete Schreiben.",
        ),
    ],
)
def test_german(sentence: Sentence, style: Style, text: str) -> None:
    assert german(sentence, style) == text


def test_all_translations_are_found_once() -> None:
    assert len(translations(BUY)) == len(set(translations(BUY))) == 12
    assert len(translations(HELP)) == 3, "present tense, and nothing to front"


# The declension of determiner and adjective, written out: nominative, accusative, dative.
DECLENSION = {
    "der": {
        "m": "der -e, den -en, dem -en",
        "f": "die -e, die -e, der -en",
        "n": "das -e, das -e, dem -en",
        "p": "die -en, die -en, den -en",
    },
    "dies": {
        "m": "dieser -e, diesen -en, diesem -en",
        "f": "diese -e, diese -e, dieser -en",
        "n": "dieses -e, dieses -e, diesem -en",
        "p": "diese -en, diese -en, diesen -en",
    },
    "kein": {
        "m": "kein -er, keinen -en, keinem -en",
        "f": "keine -e, keine -e, keiner -en",
        "n": "kein -es, kein -es, keinem -en",
        "p": "keine -en, keine -en, keinen -en",
    },
    "zwei": {"p": "zwei -e, zwei -e, zwei -en"},
}
LIKE = {"jed": "dies", "ein": "kein", "mein": "kein", "unser": "kein", "drei": "zwei"}


def declined(determiner: str, ending: str | None) -> set[tuple[str, int]]:
    """Gender (or plural) and case that a determiner and an adjective's ending may stand for."""
    found = set()
    for stem in (*DECLENSION, *LIKE):
        model = LIKE.get(stem, stem)
        for form, cells in DECLENSION[model].items():
            for case, cell in enumerate(cells.split(", ")):
                word, adjective_ending = cell.split(" -")
                if word.replace(model, stem, 1) == determiner and ending in (None, adjective_ending):
                    found.add((form, case))
    return found


def noun_readings(word: str) -> set[tuple[str, int]]:
    """Gender (or plural) and case that a noun's form may stand for."""
    readings = set()
    for forms in (forms for noun in NOUNS for forms in noun.german):
        dative = forms.plural if forms.plural[-1] in "ns" else forms.plural + "n"
        if word == forms.singular:
            readings |= {(forms.gender, case) for case in range(3)}
        if word == forms.plural:
            readings |= {("p", 0), ("p", 1)}
        if word == dative:
            readings.add(("p", 2))
    return readings


STEMS = sorted({stem for group in ADJECTIVES.values() for word in group for stem in word.german}, key=len)[
    ::-1
]


def test_determiner_adjective_and_noun_agree_in_every_translation(corpus: dict[str, list[Example]]) -> None:
    seen: Counter[str] = Counter()
    texts = [text for example in corpus["train"] for text in translations(example.sentence)]
    for text in texts:
        words = text.replace(",", "").replace(".", "").split()
        words[0] = words[0][0].lower() + words[0][1:]
        for i, word in enumerate(words):
            # Adverbials have nouns of their own.
            if not noun_readings(word) or words[i - 1] in ("am", "letzte", "vergangene", "letztes"):
                continue
            stem = next((stem for stem in STEMS if words[i - 1].startswith(stem)), None)
            ending = words[i - 1].removeprefix(stem) if stem else None
            determiner = words[i - 1 - bool(stem)]
            determiner = "dem" if determiner in ("im", "beim") else determiner
            readings = declined(determiner, ending) & noun_readings(word)
            assert readings, f"{determiner} -{ending} {word}: {text}"
            seen.update(form for form, _ in readings)
            seen.update(f"adjective {form}" for form, _ in readings if stem)
    assert min(seen[key] for form in "mfnp" for key in (form, f"adjective {form}")) > 50


def finite_forms(plural: bool) -> set[str]:
    """All finite verb forms of one number, with their separable prefix and without."""
    forms = {"haben", "sind", "müssen", "können", "wollen"} if plural else {"hat", "ist"}
    for present, past in MODALS.values():
        forms |= {past[2] + "n"} if plural else {present[2], past[2]}
    for german_verb in (german_verb for verb in [*VERBS, *SPEECH_VERBS] for german_verb in verb.german):
        preterite = german_verb.preterite + ("n" if german_verb.preterite.endswith("e") else "en")
        numbers = (
            (german_verb.infinitive, preterite) if plural else (german_verb.present, german_verb.preterite)
        )
        forms |= {prefix + form for form in numbers for prefix in ("", german_verb.prefix)}
    return forms


FINITE = {plural: finite_forms(plural) for plural in (False, True)}


def test_subordinate_clauses_end_in_a_verb_that_agrees_with_their_subject(
    corpus: dict[str, list[Example]],
) -> None:
    checked: Counter[bool] = Counter()
    for sentence in (example.sentence for example in corpus["train"]):
        if not (sentence.conjunction and sentence.subordinate and sentence.subordinate.subject):
            continue
        plural = sentence.subordinate.subject.plural
        for number, text in enumerate(german(sentence, style) for style in STYLES):
            conjunction = sentence.conjunction.german[STYLES[number].register]
            clauses = [clause.split() for clause in text.rstrip(".").split(", ")]
            clause = next(clause for clause in clauses if clause[0].lower() == conjunction)
            assert clause[-1] in FINITE[plural], text
            checked[plural] += 1
    assert min(checked.values()) > 200


def test_the_verb_is_second_and_agrees_in_main_clauses(corpus: dict[str, list[Example]]) -> None:
    checked: Counter[tuple[bool, bool]] = Counter()
    for sentence in (example.sentence for example in corpus["train"]):
        subject = sentence.main.subject
        assert subject is not None
        if subject.relative:
            continue
        for variant in STYLES:
            words = german(sentence, variant).rstrip(".").split()
            clause_first = sentence.conjunction and variant.fronted and sentence.conjunction is not THAT
            if clause_first:
                comma = next(i for i, word in enumerate(words) if word.endswith(","))
                position = comma + 1
            elif variant.fronted and (sentence.main.time or sentence.main.place):
                continue
            else:
                position = 1 if subject.noun is None else 2 + bool(subject.adjective)
            assert words[position].rstrip(",") in FINITE[subject.plural], (words, position)
            checked[bool(clause_first), subject.plural] += 1
    assert len(checked) == 4 and min(checked.values()) > 20


def test_the_register_is_the_same_in_the_whole_sentence(corpus: dict[str, list[Example]]) -> None:
    # Longest forms that no other register has; inflection only appends to them.
    own = [{noun.german[register].singular for noun in NOUNS} for register in range(3)]
    exclusive = [own[i] - own[(i + 1) % 3] - own[(i + 2) % 3] for i in range(3)]
    several = 0
    for example in corpus["train"]:
        words = set(example.target.replace(",", "").replace(".", "").split())
        registers = {register for register in range(3) for word in words if word in exclusive[register]}
        assert registers <= {example.style.register}, example.target
        several += bool(registers)
    assert several > 100


def test_every_style_occurs_and_none_dominates(corpus: dict[str, list[Example]]) -> None:
    shares = Counter(example.style for example in corpus["train"])
    assert set(shares) == set(STYLES)
    assert max(shares.values()) < 0.25 * SIZES["train"]


def test_same_seed_same_corpus_and_another_seed_another(corpus: dict[str, list[Example]]) -> None:
    assert generate(1, SIZES) == corpus
    other = generate(2, SIZES)
    assert sum(a.source == b.source for a, b in zip(other["test"], corpus["test"], strict=True)) < 5


def test_the_test_set_does_not_depend_on_the_size_of_train(corpus: dict[str, list[Example]]) -> None:
    smaller = generate(1, {**SIZES, "train": 10})
    assert smaller["test"] == corpus["test"] and smaller["valid"] == corpus["valid"]
    assert smaller["train"] == corpus["train"][:10]


def test_no_source_occurs_twice(corpus: dict[str, list[Example]]) -> None:
    sources = [example.source for examples in corpus.values() for example in examples]
    assert {split: len(examples) for split, examples in corpus.items()} == SIZES
    assert len(set(sources)) == len(sources)


def test_lengths(corpus: dict[str, list[Example]]) -> None:
    for example in corpus["train"]:
        for text in (example.source, *example.references()):
            assert MIN_WORDS <= len(text.split()) <= MAX_WORDS


def test_most_sentences_have_several_different_references(corpus: dict[str, list[Example]]) -> None:
    counts = []
    for example in corpus["test"]:
        references = example.references()
        assert references[0] == example.target
        assert len(set(references)) == len(references) <= len(STYLES)
        counts.append(len(references))
    assert sum(count >= 3 for count in counts) > 0.9 * len(counts)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_files_hold_the_corpus_and_all_references(corpus: dict[str, list[Example]], tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "out", corpus, references=12)
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    assert lines(tmp_path / "out" / "train.en") == [example.source for example in corpus["train"]]
    assert lines(tmp_path / "out" / "valid.de") == [example.target for example in corpus["valid"]]
    references = [lines(tmp_path / "out" / name) for name in ("test.de", *FURTHER)]
    for example, texts in zip(corpus["test"], zip(*references, strict=True), strict=True):
        assert set(texts) == set(example.references())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_toy_corpus.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_script_writes_what_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sizes = ("--train", 30, "--valid", 4, "--test", 5, "--references", 2, "--seed", 7)
    run(monkeypatch, "--out", tmp_path / "toy", *sizes)
    assert "30 sentence pairs" in capsys.readouterr().out
    counts = {path.name: len(lines(path)) for path in (tmp_path / "toy").iterdir()}
    languages = {
        f"{split}.{side}": n
        for split, n in (("train", 30), ("valid", 4), ("test", 5))
        for side in ("en", "de")
    }
    assert counts == {**languages, "test.de.1": 5}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--train", "0"), "--train 0: needs at least 1"),
        (("--test", "-3"), "--test -3: needs at least 1"),
        (("--references", "-1"), "--references -1: needs at least 1"),
        (("--valid", "many"), "--valid"),
        (("--out", __file__), "is not a folder"),
    ],
)
def test_bad_flags_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    flags: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--out", tmp_path / "toy", *flags)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "toy").exists()
