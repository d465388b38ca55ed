"""The text pipeline: what is tokenised, segmented and put together again is the normalised line."""

import json
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.text import moses
from vqnat_plugin.text.languages import has_blanks
from vqnat_plugin.text.pipeline import FILE_NAME, TextPipeline, choose_tokenizer
from vqnat_plugin.text.subwords import BPE, learn_merges, learn_pieces

# One line or more in each of 31 languages and 22 scripts.
LINES = {
    "en": [
        "The café isn't open (yet): it's 7:45.",
        "Mail a.b@example.org or see https://a.b/c?d=e&f=g, please.",
    ],
    "de": ["Mir geht's gut, „danke“!", 'Die "slow"-Schilder, z.\u202fB. an der A5/E35…', "Hebb'sche Netze"],
    "fr": ["Qu’est-ce que c’est, l’été\u202f?", "«\u00a0Bonjour\u00a0», dit-il\u00a0; 12\u00a0%."],
    "cs": ["Řekl: „Ano, je-li to tak.“"],
    "fi": ["EU:n ja USA:ssa 20:een."],
    "it": ["L'acqua dell'isola è blu."],
    "tr": ["İstanbul'da ılık bir gün."],
    "vi": ["Tôi không biết tiếng Việt."],
    "ru": ["Он сказал: «Да, это так»."],
    "uk": ["П'ять м’ячів під'їхали."],
    "sr": ["Ово је кућа."],
    "el": ["Τι κάνεις; Καλά, ευχαριστώ·"],
    "hy": ["Բարև, ինչպե՞ս ես։"],
    "ka": ["გამარჯობა, როგორ ხარ?"],
    "he": ["שלום, מה שלומך? צה״ל"],
    "ar": ["مرحبا، كيف حالك؟", "كَتَبَ الوَلَدُ."],
    "fa": ["من می‌خواهم کتاب‌ها را بخوانم."],
    "ur": ["آپ کیسے ہیں؟"],
    "hi": ["मैं हिन्दी में पढ़ता हूँ।", "क्‍या आप क़लम लाए?"],
    "bn": ["আমি বাংলায় গান গাই।"],
    "ta": ["நான் தமிழ் பேசுகிறேன்."],
    "te": ["నేను తెలుగు మాట్లాడతాను."],
    "am": ["ሰላም፣ እንዴት ነህ?"],
    "th": ["ฉันชอบกินแอปเปิ้ลที่บ้าน"],
    "lo": ["ຂ້ອຍມັກກິນເຂົ້າ"],
    "km": ["ខ្ញុំចូលចិត្តភាសាខ្មែរ។"],
    "my": ["ကျွန်တော် ပန်းသီး ကြိုက်တယ်။"],
    "bo": ["བོད་སྐད་ཤེས་ཀྱི་མེད།"],
    "zh": ["我喜欢吃红苹果。", "他说：“今天（周一）去学校。”"],
    "ja": ["私は猫が好きです。「本当？」"],
    "ko": ["나는 사과를 좋아한다."],
}
WITH_BLANKS = [language for language in LINES if has_blanks(language)]
MERGES = learn_merges(["the cat sat on the mat &apos;s @-@ ." for _ in range(3)], 20)
MODEL = learn_pieces([line for lines in LINES.values() for line in lines] * 2, 50)

# Everything that a tokeniser, a segmentation or a line reader could stumble over.
PARTS = st.sampled_from(
    [
        *(
            "http://a.b/c?d=e&f=g",
            "a@b.org",
            "@",
            "@@",
            "@-@",
            "a@@",
            "</w>",
            "&amp;",
            "&apos;s",
            "&#124;",
            "<s>",
        ),
        *(
            "don't",
            "l'eau",
            "'s",
            "s'",
            "Jones'",
            '"a"-b',
            "7:45",
            "5,3",
            "x/y",
            "...",
            "Q&A.",
            "US$",
            "¿qué?",
        ),
        *(
            "▁",
            "￭",
            "\u200b",
            "\u200d",
            "\ufeff",
            "\xa0",
            "\u3000",
            "\u2028",
            "\t",
            "é",
            "e\u0301",
            "\U0001f468\u200d",
        ),
        *(" ", "  ", "-", "–", "„", "“", "«", "(", ")", "[", "]", "|", "#", "a", "Z", "1", "猫", "ก", "क"),
    ]
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=15),
    st.lists(PARTS, max_size=10).map("".join),
    st.lists(PARTS, max_size=10).map(" ".join),
)


def moses_pipeline(language: str, merges: str = MERGES) -> TextPipeline:
    return TextPipeline(language, "en", merges=merges)


def piece_pipeline(language: str) -> TextPipeline:
    return TextPipeline(language, "en", tokenizer="sentencepiece", model=MODEL)


def check(pipeline: TextPipeline, line: str, language: str) -> str:
    """Raise unless a line comes back; returns its tokens."""
    normalized, tokens = pipeline.normalize(line, language), pipeline.encode(line)
    assert pipeline.decode(tokens, language) == normalized
    # fairseq cuts at white space of any kind.
    assert tokens.split(" ") == (tokens.split() or [""])
    assert pipeline.decode(pipeline.encode(normalized), language) == pipeline.normalize(normalized, language)
    return tokens


@pytest.mark.parametrize("language", LINES)
def test_lines_of_many_scripts_come_back(language: str) -> None:
    for line in LINES[language]:
        check(piece_pipeline(language), line, language)
        assert piece_pipeline(language).normalize(line, language) == " ".join(
            unicodedata.normalize("NFC", line).split()
        )
        if language in WITH_BLANKS:
            check(moses_pipeline(language), line, language)
            check(moses_pipeline(language, merges=""), line, language)


@settings(max_examples=400)
@given(TEXT, st.sampled_from(WITH_BLANKS), st.sampled_from(["", MERGES]))
def test_any_line_comes_back_from_moses(line: str, language: str, merges: str) -> None:
    check(moses_pipeline(language, merges), line, language)


@settings(max_examples=300)
@given(TEXT, st.sampled_from(list(LINES)))
def test_any_line_comes_back_from_pieces(line: str, language: str) -> None:
    check(piece_pipeline(language), line, language)


@settings(max_examples=200)
@given(TEXT)
def test_whatever_a_model_writes_becomes_one_line(line: str) -> None:
    for pipeline in (moses_pipeline("de"), piece_pipeline("zh")):
        found = pipeline.decode(line)
        assert isinstance(found, str) and "\n" not in found


def test_pieces_of_line_ends_end_no_line() -> None:
    pieces = "<0x0A> 我 <0x0A> 我 <0x09> <0xE2> <0x80> <0xA8> 我 <0x0D>"
    assert piece_pipeline("zh").decode(pieces) == "我 我 我"


def test_moses_is_as_it_always_was_where_it_undoes_its_work() -> None:
    from sacremoses import MosesDetokenizer, MosesTokenizer

    tokenizer, detokenizer = MosesTokenizer(lang="en"), MosesDetokenizer(lang="en")
    for line in ["Don't worry, it is half-price.", 'He said: "Yes, (maybe)!"', "Hello world"]:
        tokens = tokenizer.tokenize(line, aggressive_dash_splits=True)
        assert moses.tokenize(line, "en") == tokens
        assert moses.detokenize(tokens, "en") == detokenizer.detokenize(tokens) == line


def test_marks_stand_only_where_moses_is_wrong() -> None:
    assert moses.tokenize("A/B test", "en") == ["A", moses.JOINED, "/", moses.JOINED, "B", "test"]
    assert moses.tokenize("So , yes", "en") == ["So", moses.APART, ",", "yes"]
    # Mended without a mark.
    for line in ("Mir geht's gut.", "Es ist 7:45 Uhr.", 'Das "slow"-Schild.', "Ich bin's."):
        tokens = moses.tokenize(line, "de")
        assert moses.without_marks(tokens) == tokens and moses.detokenize(tokens, "de") == line


def test_a_model_that_has_not_learnt_marks_does_not_see_them() -> None:
    pipeline = TextPipeline("en", "de", marks=False)
    assert pipeline.encode("A/B") == "A / B"
    assert "￭" in TextPipeline("en", "de", marks=True).encode("A/B")


def test_more_addresses_than_sacremoses_takes() -> None:
    pipeline = TextPipeline("en", "de")
    line = " ".join(["a@b.co"] * 1001)
    assert pipeline.decode(pipeline.encode(line), "en") == line


@pytest.mark.parametrize("language", ["en", "de", "fr", "sv", "cs", "pl"])
def test_digits_with_a_blank_between_stay_the_number_that_they_are(language: str) -> None:
    for blank in "\u00a0\u202f ":
        pipeline = TextPipeline(language, "en")
        assert pipeline.normalize(f"10{blank}000 or 1,5", language) == "10 000 or 1,5"


def test_addresses_stay_whole() -> None:
    line = "See http://a.b/c?d=e&f=g, or write to x.y@z.org."
    assert moses.tokenize(line, "en") == [
        *("See", "http://a.b/c?d=e&amp;f=g", ",", "or", "write", "to", "x.y@z.org", ".")
    ]


@pytest.mark.parametrize("pipeline", [moses_pipeline("de"), piece_pipeline("de")], ids=["moses", "pieces"])
def test_what_nobody_sees_is_left_out(pipeline: TextPipeline) -> None:
    plain = pipeline.encode("Ein Müller ist hier.")
    for mark in "\u00ad\u200b\u200e\u200f\u202c\u2060\u2069\ufeff":
        seen = f"{mark}Ein Mü{mark}ller{mark} ist hier.{mark}"
        assert pipeline.encode(seen) == plain, ascii(mark)
    assert pipeline.encode("Ein\x00Müller\x9fist hier.") == plain
    # Persian words are other words without it.
    assert "\u200c" in pipeline.normalize("می\u200cخواهم", "de")


def test_composed_and_decomposed_text_are_the_same() -> None:
    composed, decomposed = "Café Müller", "Cafe\u0301 Mu\u0308ller"
    for pipeline in (moses_pipeline("de"), piece_pipeline("de")):
        assert pipeline.encode(composed) == pipeline.encode(decomposed)
    as_it_is = TextPipeline("de", "en", normalization="none")
    assert as_it_is.encode(composed) != as_it_is.encode(decomposed)
    assert TextPipeline("de", "en", normalization="nfkc").normalize("ﬁ①", "de") == "fi1"


def test_the_tokeniser_is_chosen_by_the_scripts() -> None:
    assert {
        pair: choose_tokenizer(*pair) for pair in (("en", "de"), ("en-US", "ru"), ("el", "fr"))
    } == dict.fromkeys((("en", "de"), ("en-US", "ru"), ("el", "fr")), "moses")
    for language in ("hi", "fa", "th", "my", "ar", "zh", "ja", "ko", "zh_TW"):
        assert choose_tokenizer("en", language) == choose_tokenizer(language, "en") == "sentencepiece"
    assert choose_tokenizer("en", "de", "sentencepiece") == "sentencepiece"
    assert choose_tokenizer("en", "hi", "moses") == "moses"
    with pytest.raises(UsageError, match="--tokenizer moses: has no rules for 'zh'"):
        choose_tokenizer("en", "zh", "moses")
    for code in ("xx", "", "und", "german", "e n"):
        with pytest.raises(UsageError, match="is no code of a language"):
            choose_tokenizer("en", code)


def test_a_country_makes_no_difference() -> None:
    line = "He doesn't know Jones' house."
    assert TextPipeline("en-US", "de").encode(line) == TextPipeline("en", "de").encode(line)


@pytest.mark.parametrize(
    "pipeline",
    [moses_pipeline("de"), piece_pipeline("zh"), TextPipeline("en", "ru", marks=False, normalization="nfkc")],
)
def test_a_pipeline_is_a_small_file(pipeline: TextPipeline, tmp_path: Path) -> None:
    pipeline.save(tmp_path)
    assert TextPipeline.load(tmp_path) == TextPipeline.find(tmp_path) == pipeline
    assert (tmp_path / FILE_NAME).stat().st_size < 1 << 20
    assert TextPipeline.find(tmp_path.parent) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "text pipeline of format 2, needs 1"),
        ({"format": None}, "text pipeline of format None"),
        ({"tokenizer": "split"}, "damaged text pipeline (tokenizer: 'split')"),
        ({"normalization": 7}, "damaged text pipeline (normalization: '7')"),
        ({"source_lang": "xx"}, "damaged text pipeline ('xx' is no code"),
        ({"merges": "no merges here"}, "damaged text pipeline (merges: not BPE merges"),
        ({"tokenizer": "sentencepiece"}, "damaged text pipeline (SentencePiece model: not"),
        ({"tokenizer": "sentencepiece", "model": "????"}, "damaged text pipeline ("),
        ({"tokenizer": "sentencepiece", "model": "AAAA"}, "damaged text pipeline ("),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    moses_pipeline("de").save(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError) as caught:
        TextPipeline.load(path)
    assert str(caught.value).startswith(f"{path}: {message}") and "\n" not in str(caught.value)


def test_given_merges_are_checked(tmp_path: Path) -> None:
    for wrong in (
        *("", "#version: 0.2\n", "a b c\n", "ab\n", "#version: x\na b\n", "#version:\na b\n", "a b\n\nc d\n"),
        *("#version: 0.2\ra b\rc d\r", "a b\rc d\r", "a b\x0cc d\n", "a b\u2028c d\n"),
    ):
        with pytest.raises(DataError, match="not BPE merges in subword-nmt's format"):
            BPE(wrong, "codes")
    for right in ("#version: 0.2\na b\n", "a b", " a b\nc d \n", "a b\r\nc d\r\n", "a\u2028 b\n"):
        assert BPE(right, "codes").split(["x"]) == ["x"]


def test_pieces_of_a_small_text_are_learnt() -> None:
    for lines in (["a"], ["你好"], ["a b", "", "c"]):
        pipeline = TextPipeline("zh", "en", tokenizer="sentencepiece", model=learn_pieces(lines, 1000))
        for line in lines:
            assert pipeline.decode(pipeline.encode(line)) == line
    assert learn_pieces(["hello world"] * 3, 9) == learn_pieces(["hello world"] * 3, 9)


def test_no_torch_is_needed(tmp_path: Path) -> None:
    piece_pipeline("zh").save(tmp_path)
    program = (
        "import sys; from pathlib import Path; from vqnat_plugin.text.pipeline import TextPipeline as T\n"
        f"T.load(Path({str(tmp_path)!r})).encode('x'); T('en', 'de').encode('x')\n"
        "assert not {'torch', 'fairseq'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_processes_share_a_pipeline() -> None:
    import pickle

    rng = random.Random(1)
    for pipeline in (moses_pipeline("de"), piece_pipeline("zh")):
        pipeline.encode("warm")
        copy = pickle.loads(pickle.dumps(pipeline))
        line = " ".join(rng.choices(["Haus", "猫", "A/B"], k=5))
        assert copy == pipeline and copy.encode(line) == pipeline.encode(line)
        # What was read for one is not read again for each part of a text.
        assert copy._bpe is pipeline._bpe if pipeline.merges else copy._pieces is pipeline._pieces
