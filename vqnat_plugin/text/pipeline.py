"""The text pipeline: what makes tokens of raw text, and text of tokens. It travels with data and model."""

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ..errors import DataError, UsageError
from ..files import write_json
from ..reading import read_json
from . import moses
from .languages import base_language, has_blanks, moses_undoes
from .normalize import CONTROL, FORMS, clean, single_blanks
from .subwords import BPE, Pieces

# Beside the dictionaries of binarised data.
FILE_NAME = "text.json"
FORMAT = 1
TOKENIZERS = ("moses", "sentencepiece")


def choose_tokenizer(source: str, target: str, wanted: str | None = None) -> str:
    """The tokeniser for a pair of languages: Moses where its rules fit both, else SentencePiece.

    Args:
        source, target: codes of the languages.
        wanted: the tokeniser that was asked for.

    Raises:
        UsageError: a code is unknown, or Moses is wanted for a language without blanks between words.
    """
    languages = (source, target)
    fits = all(list(map(moses_undoes, languages)))
    if wanted is None:
        return "moses" if fits else "sentencepiece"
    for language in languages:
        if wanted == "moses" and not has_blanks(language):
            raise UsageError(
                f"--tokenizer moses: has no rules for '{language}', whose words have no blanks between them: "
                "needs sentencepiece"
            )
    return wanted


@dataclass(frozen=True)
class TextPipeline:
    """Normaliser, tokeniser and segmentation of a pair of languages, and the way back.

    For every line, `decode(encode(line)) == normalize(line)`; with Moses this needs `marks`.

    Attributes:
        source, target: codes of the languages.
        tokenizer: `moses`, with `merges`; or `sentencepiece`, with `model`.
        normalization: form of Unicode: `nfc`, `nfkc` or `none`.
        marks: whether sub-words say where Moses would set blanks wrongly, see `moses.py`.
        merges: of the BPE, in subword-nmt's format; none when empty.
        model: a SentencePiece model.
    """

    source: str
    target: str
    tokenizer: str = "moses"
    normalization: str = "nfc"
    marks: bool = True
    merges: str = ""
    model: bytes = b""

    @cached_property
    def _bpe(self) -> BPE:
        return _read_merges(self.merges)

    @cached_property
    def _pieces(self) -> Pieces:
        return _read_pieces(self.model)

    def __getstate__(self) -> dict[str, object]:
        # What is made from the rest is made anew in another process.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def normalize(self, line: str, language: str) -> str:
        """A raw line in the form that comes back from its tokens."""
        line = clean(line, self.normalization)
        if self.tokenizer == "moses":
            return single_blanks(moses.normalize_punctuation(line, language))
        line = single_blanks(line)
        return single_blanks(self._pieces.normalize(line)) if self.model else line

    def tokenize(self, line: str, language: str) -> list[str]:
        """Tokens of a raw line, whole words: for SentencePiece the line itself, which it cuts as it is."""
        line = self.normalize(line, language)
        if self.tokenizer == "moses":
            return moses.tokenize(line, language)
        return [line] if line else []

    def segment(self, tokens: Sequence[str]) -> list[str]:
        """The sub-words of what `tokenize` returns, with its marks only where there are any in the data."""
        if self.tokenizer == "moses":
            tokens = tokens if self.marks else moses.without_marks(tokens)
            return self._bpe.split(tokens) if self.merges else list(tokens)
        return [piece for line in tokens for piece in self._pieces.split(line)]

    def encode(self, line: str, language: str | None = None) -> str:
        """What a model reads: the sub-words of a raw line, with blanks between them.

        Args:
            line: one sentence.
            language: of the line; the source's by default.
        """
        return " ".join(self.segment(self.tokenize(line, language or self.source)))

    def decode(self, text: str, language: str | None = None) -> str:
        """The line that sub-words make.

        Args:
            text: sub-words with blanks between them, as a model writes them.
            language: of the line; the target's by default.
        """
        if self.tokenizer == "sentencepiece":
            # Its pieces may be bytes, and those of a line feed would make two lines.
            return CONTROL.sub(" ", self._pieces.join(text.split())).strip()
        return moses.detokenize(BPE.join(text.split()), language or self.target)

    def save(self, folder: Path) -> None:
        """Write `text.json` to a folder."""
        content = {
            "format": FORMAT,
            "source_lang": self.source,
            "target_lang": self.target,
            "tokenizer": self.tokenizer,
            "normalization": self.normalization,
        }
        if self.tokenizer == "moses":
            content |= {"marks": self.marks, "merges": self.merges}
        else:
            content |= {"model": base64.b64encode(self.model).decode("ascii")}
        write_json(folder / FILE_NAME, content)

    @classmethod
    def load(cls, path: Path) -> "TextPipeline":
        """Read a file that `save` wrote, or that file in a folder.

        Raises:
            DataError: it is missing, damaged, or of a later version.
        """
        path = path / FILE_NAME if path.is_dir() else path
        content = read_json(path)
        if content.get("format") != FORMAT:
            raise DataError(
                f"{path}: text pipeline of format {content.get('format')!r}, needs {FORMAT}; was it written "
                "by another version?"
            )
        try:
            pipeline = cls(
                source=_text(content, "source_lang"),
                target=_text(content, "target_lang"),
                tokenizer=_text(content, "tokenizer", TOKENIZERS),
                normalization=_text(content, "normalization", FORMS),
                marks=content.get("marks", True) is True,
                merges=_text(content, "merges") if "merges" in content else "",
                model=base64.b64decode(_text(content, "model"), validate=True) if "model" in content else b"",
            )
            if pipeline.tokenizer == "sentencepiece":
                Pieces(pipeline.model)
            elif pipeline.merges:
                BPE(pipeline.merges)
            base_language(pipeline.source), base_language(pipeline.target)
        except (DataError, UsageError, ValueError, binascii.Error) as error:
            raise DataError(f"{path}: damaged text pipeline ({error}); prepare the data again") from None
        return pipeline

    @classmethod
    def find(cls, folder: Path) -> "TextPipeline | None":
        """The pipeline of binarised data; None where another program prepared it.

        Raises:
            DataError: see `load`.
        """
        path = folder / FILE_NAME
        return cls.load(path) if path.is_file() else None


# A process that is sent the same pipeline again and again has read it, and keeps the words that it has seen.
_read_merges = lru_cache(maxsize=8)(BPE)
_read_pieces = lru_cache(maxsize=8)(Pieces)


def _text(content: dict[str, object], name: str, allowed: Collection[str] = ()) -> str:
    value = content.get(name)
    if not isinstance(value, str) or (allowed and value not in allowed):
        raise ValueError(f"{name}: {str(value)[:40]!r}")
    return value
