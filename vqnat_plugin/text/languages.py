"""What a language code says: whether it is one, its script, and how its text is cut and scored."""

import functools

from ..errors import UsageError

# Scripts (ISO 15924) in which no blank stands between sentences, and those with none between words.
SENTENCES_WITHOUT_BLANKS = frozenset(("Bopo", "Hani", "Hans", "Hant", "Hira", "Jpan", "Kana", "Yiii"))
WITHOUT_BLANKS = SENTENCES_WITHOUT_BLANKS.union(
    ("Khmr", "Laoo", "Lana", "Mymr", "Talu", "Tale", "Thai", "Tibt")
)
# Scripts that the rules of Moses were written for.
MOSES = frozenset(("Cyrl", "Grek", "Latn"))
# sacreBLEU's tokenisers by language; char for others without blanks between words, 13a for the rest.
SACREBLEU = {
    **dict.fromkeys(("zh", "cmn", "hak", "lzh", "nan", "wuu", "yue"), "zh"),
    "ja": "ja-mecab",
    "ko": "ko-mecab",
}


def base_language(code: str) -> str:
    """The language of a code, without country and script: `en` for `en-US`.

    Raises:
        UsageError: it is not the code of a language (BCP 47: ISO 639 first).
    """
    return _parts(code)[0]


@functools.cache
def _parts(code: str) -> tuple[str, str]:
    """A language without country and script, and the script that it is most likely written in."""
    # 30 ms that only those pay who have a text.
    import langcodes

    try:
        # The tag of English text is 'en', whatever it is called: 'eng' and 'en_US' are the same language.
        language = langcodes.Language.get(code)
        known = language.is_valid() and language.language is not None
    except langcodes.LanguageTagError:
        known = False
    if not known:
        raise UsageError(
            f"'{code}' is no code of a language: needs one of ISO 639, such as en, de or zh "
            "(--source-lang, --target-lang)"
        )
    return str(language.language), str(language.maximize().script)


def has_blanks(code: str) -> bool:
    """Whether blanks stand between the words of a language; see `base_language` for what is raised."""
    return _parts(code)[1] not in WITHOUT_BLANKS


def between_sentences(code: str) -> str:
    """What stands between two sentences of a language; see `base_language` for what is raised."""
    return "" if _parts(code)[1] in SENTENCES_WITHOUT_BLANKS else " "


def moses_undoes(code: str) -> bool:
    """Whether the rules of Moses fit a language; see `base_language` for what is raised."""
    return _parts(code)[1] in MOSES


def sacrebleu_tokenizer(code: str | None) -> str:
    """The tokeniser that sacreBLEU scores a language with; 13a for what is no known language."""
    try:
        others = "13a" if has_blanks(code or "") else "char"
        return SACREBLEU.get(base_language(code or ""), others)
    except UsageError:
        return "13a"
