"""The grammar of the toy corpus: one meaning, its English sentence, and its German ones in every style.

German shows what makes translation hard: determiners and adjectives agree in gender, case and number, verbs
agree with their subject, the finite verb stands second in a main clause and last in a subordinate one,
separable prefixes and participles close the clause, and some verbs govern the dative.
"""

from dataclasses import dataclass
from itertools import product

from toy_lexicon import MODAL_INFINITIVES, MODALS, REGISTERS, Noun, NounForms, Phrase, Verb, VerbForms


@dataclass(frozen=True)
class Style:
    """The choices that a translator makes once for a whole sentence.

    Attributes:
        register: index into `REGISTERS`; decides every noun, verb, adjective and conjunction with synonyms.
        perfect: past events in the perfect (`hat gekauft`) instead of the preterite (`kaufte`).
        fronted: the subordinate clause, or else an adverbial, before the verb, and the subject after it.
    """

    register: int
    perfect: bool
    fronted: bool


STYLES = tuple(
    Style(register, perfect, fronted)
    for register, perfect, fronted in product(range(len(REGISTERS)), (False, True), (False, True))
)


@dataclass(frozen=True)
class NounPhrase:
    """Determiner, adjective and noun; or a pronoun as `determiner`, without noun."""

    determiner: str
    plural: bool
    noun: Noun | None = None
    adjective: Phrase | None = None
    relative: "Clause | None" = None


@dataclass(frozen=True)
class Clause:
    """Who does what to whom, when, how and where. A relative clause has no subject of its own."""

    subject: NounPhrase | None
    verb: Verb
    past: bool
    objects: tuple[NounPhrase, ...] = ()
    time: Phrase | None = None
    manner: Phrase | None = None
    place: tuple[Phrase, NounPhrase] | None = None
    modal: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A main clause, perhaps with a subordinate one; after the conjunction "that" it is an object clause."""

    main: Clause
    conjunction: Phrase | None = None
    subordinate: Clause | None = None


# --- English ------------------------------------------------------------------------------------------


def english(sentence: Sentence) -> str:
    """The English sentence, as ordinary text."""
    words = _english_clause(sentence.main)
    if sentence.conjunction and sentence.subordinate:
        words += [sentence.conjunction.english, *_english_clause(sentence.subordinate)]
    words = " ".join(words).split()
    # The article is the only word that depends on the next one.
    for i, word in enumerate(words[:-1]):
        if word == "a" and words[i + 1][0] in "aeio":
            words[i] = "an"
    return _text(words)


def _text(words: list[str]) -> str:
    """Words and commas as ordinary text; a comma is dropped where another mark follows."""
    text = " ".join([*words, "."])
    for spaced, mark in ((" , .", "."), (" , ,", ","), (" ,", ","), (" .", ".")):
        text = text.replace(spaced, mark)
    return text[0].upper() + text[1:]


def _english_clause(clause: Clause, plural: bool = False) -> list[str]:
    words = []
    if clause.subject:
        plural = clause.subject.plural
        words += _english_phrase(clause.subject)
    if clause.modal:
        words += [MODALS[clause.modal][clause.past][plural], clause.verb.base]
    elif clause.past:
        words.append(clause.verb.past)
    else:
        words.append(clause.verb.base if plural else clause.verb.present)
    for phrase in clause.objects:
        words += _english_phrase(phrase)
    if clause.manner:
        words.append(clause.manner.english)
    if clause.place:
        words += [clause.place[0].english, *_english_phrase(clause.place[1])]
    if clause.time:
        words.append(clause.time.english)
    return words


ENGLISH_PLURALS = {"this": "these"}


def _english_phrase(phrase: NounPhrase) -> list[str]:
    if phrase.noun is None:
        return [phrase.determiner]
    words = [
        ENGLISH_PLURALS.get(phrase.determiner, phrase.determiner) if phrase.plural else phrase.determiner
    ]
    if phrase.adjective:
        words.append(phrase.adjective.english)
    words.append(phrase.noun.plural if phrase.plural else phrase.noun.singular)
    if phrase.relative:
        pronoun = "who" if phrase.noun.kind == "person" else "that"
        words += [pronoun, *_english_clause(phrase.relative, phrase.plural)]
    return words


# --- German -------------------------------------------------------------------------------------------

PRONOUNS = {"he": "er", "she": "sie", "we": "wir", "they": "sie"}
ARTICLES = {  # nominative, accusative, dative; `p` is the plural. Also the relative pronoun's nominative.
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "n": ("das", "das", "dem"),
    "p": ("die", "die", "den"),
}
STRONG = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em"), "p": ("e", "e", "en")}
WEAK = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en"), "p": ("en", "en", "en")}
STEMS = {"this": "dies", "every": "jed", "a": "ein", "my": "mein", "our": "unser", "no": "kein"}
EIN_WORDS = ("a", "my", "our", "no")
NUMERALS = {"two": "zwei", "three": "drei"}
NOMINATIVE, ACCUSATIVE, DATIVE = range(3)
CONTRACTIONS = {"in dem": "im", "bei dem": "beim"}


def german(sentence: Sentence, style: Style) -> str:
    """The German sentence in one style, as ordinary text."""
    main, conjunction, subordinate = sentence.main, sentence.conjunction, sentence.subordinate
    if conjunction and subordinate:
        clause = [conjunction.german[style.register], *_verb_last(subordinate, style)]
        if style.fronted and conjunction.english != "that":
            words = [*clause, ",", *_verb_second(main, style, first=[])]
        else:
            words = [*_main_clause(main, style), ",", *clause]
    else:
        words = _main_clause(main, style)
    return _text(words)


def translations(sentence: Sentence) -> tuple[str, ...]:
    """All valid German translations, each once, in the order of `STYLES`."""
    return tuple(dict.fromkeys(german(sentence, style) for style in STYLES))


def _main_clause(clause: Clause, style: Style) -> list[str]:
    if style.fronted and clause.time:
        return _verb_second(clause, style, [clause.time.german[style.register]], without="time")
    if style.fronted and clause.place:
        return _verb_second(clause, style, _german_place(clause.place, style), without="place")
    return _verb_second(clause, style, _german_subject(clause, style), without="subject")


def _german_subject(clause: Clause, style: Style) -> list[str]:
    return _german_phrase(clause.subject, NOMINATIVE, style) if clause.subject else []


def _verb_second(clause: Clause, style: Style, first: list[str], without: str = "") -> list[str]:
    """`first`, finite verb, the rest, and what closes the clause: prefix, participle or infinitive."""
    assert clause.subject is not None
    finite, closing, prefix = _verb_group(clause, style, clause.subject.plural)
    middle = [] if without == "subject" else _german_subject(clause, style)
    end = [prefix + closing] if closing else [prefix] if prefix else []
    return [*first, finite, *middle, *_middle_field(clause, style, without), *end]


def _verb_last(clause: Clause, style: Style, plural: bool = False) -> list[str]:
    """Subject, the rest, and all verbs at the end, the finite one last."""
    plural = clause.subject.plural if clause.subject else plural
    finite, closing, prefix = _verb_group(clause, style, plural)
    end = [prefix + closing, finite] if closing else [prefix + finite]
    return [*_german_subject(clause, style), *_middle_field(clause, style), *end]


def _verb_group(clause: Clause, style: Style, plural: bool) -> tuple[str, str, str]:
    """Finite verb, participle or infinitive (or ""), and separable prefix (or "")."""
    verb = clause.verb.german[style.register]
    if clause.modal:
        finite = MODALS[clause.modal][clause.past][2]
        if plural:
            finite = finite + "n" if clause.past else MODAL_INFINITIVES[clause.modal]
        return finite, verb.infinitive, verb.prefix
    if clause.past and style.perfect:
        auxiliaries = {"haben": ("hat", "haben"), "sein": ("ist", "sind")}
        return auxiliaries[verb.auxiliary][plural], verb.participle, verb.prefix
    return _finite(verb, clause.past, plural), "", verb.prefix


def _finite(verb: VerbForms, past: bool, plural: bool) -> str:
    if past and plural:
        return verb.preterite + ("n" if verb.preterite.endswith("e") else "en")
    if past:
        return verb.preterite
    return verb.infinitive if plural else verb.present


def _middle_field(clause: Clause, style: Style, without: str = "") -> list[str]:
    """Time, dative object, manner, place, accusative object."""
    *datives, last = clause.objects or (None,)
    words = []
    if clause.time and without != "time":
        words.append(clause.time.german[style.register])
    for phrase in datives:
        words += _german_phrase(phrase, DATIVE, style) if phrase else []
    if clause.manner:
        words.append(clause.manner.german[style.register])
    if clause.place and without != "place":
        words += _german_place(clause.place, style)
    if last:
        dative = clause.verb.german[style.register].dative
        words += _german_phrase(last, DATIVE if dative else ACCUSATIVE, style)
    return words


def _german_place(place: tuple[Phrase, NounPhrase], style: Style) -> list[str]:
    words = [place[0].german[style.register], *_german_phrase(place[1], DATIVE, style)]
    contracted = CONTRACTIONS.get(" ".join(words[:2]))
    return [contracted, *words[2:]] if contracted else words


def _german_phrase(phrase: NounPhrase, case: int, style: Style) -> list[str]:
    if phrase.noun is None:
        return [PRONOUNS[phrase.determiner]]
    forms = phrase.noun.german[style.register]
    form = "p" if phrase.plural else forms.gender
    determiner, ending = _determiner(phrase.determiner, form, case)
    words = [determiner]
    if phrase.adjective:
        words.append(phrase.adjective.german[style.register] + ending)
    words.append(_noun(forms, phrase.plural, case))
    if phrase.relative:
        words += [",", ARTICLES[form][NOMINATIVE], *_verb_last(phrase.relative, style, phrase.plural), ","]
    return words


def _determiner(determiner: str, form: str, case: int) -> tuple[str, str]:
    """The German determiner, and the ending of an adjective after it."""
    if determiner == "the":
        return ARTICLES[form][case], WEAK[form][case]
    if determiner in NUMERALS:
        return NUMERALS[determiner], STRONG[form][case]
    bare = determiner in EIN_WORDS and (form, case) in (("m", 0), ("n", 0), ("n", 1))
    if bare:
        return STEMS[determiner], STRONG[form][case]
    return STEMS[determiner] + STRONG[form][case], WEAK[form][case]


def _noun(forms: NounForms, plural: bool, case: int) -> str:
    if not plural:
        return forms.singular
    # The dative plural ends in -n, except after -n and -s.
    return forms.plural + ("n" if case == DATIVE and forms.plural[-1] not in "ns" else "")
