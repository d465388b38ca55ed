"""Sub-words: joint BPE in subword-nmt's format, and SentencePiece models."""

import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading import read_text

# How a file of merges may begin.
VERSION = re.compile(r"#version: \d+(\.\d+)*")
# How SentencePiece writes a blank.
BLANK = "▁"
# Of a SentencePiece model: <unk>, <s>, </s>, and one piece for each byte.
META = 3 + 256
# Share of the characters of the text that get a piece of their own; the others are written as bytes.
COVERAGE = 0.9995
# Words whose sub-words are kept in memory: those of a text that goes on and on would fill it.
KEPT_WORDS = 100_000
# Characters of a token that are merged at once: the time grows with their square, and no word is so long.
MOST_MERGED = 100


def learn_merges(lines: Iterable[str], merges: int) -> str:
    """The BPE merges of a text of tokens (Sennrich et al., 2016), in subword-nmt's format; none are empty."""
    from subword_nmt.learn_bpe import learn_bpe

    codes = io.StringIO()
    try:
        learn_bpe(lines, codes, num_symbols=merges, min_frequency=2)
    except ValueError as error:
        # It looks for the most frequent pair where there is none, or none left: every token is one symbol.
        if "max()" not in str(error):
            raise
    # The first line is the version of the format.
    return codes.getvalue() if codes.getvalue().count("\n") > 1 else ""


def read_merges(path: Path) -> str:
    """The text of a file of merges.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    text = read_text(path)
    BPE(text, str(path))
    return text


class BPE:
    """Tokens to sub-words that end in `@@` where a word goes on."""

    def __init__(self, merges: str, name: str = "merges") -> None:
        """
        Args:
            merges: in subword-nmt's format.
            name: where they are from, for the error.

        Raises:
            DataError: they are in another format.
        """
        from subword_nmt.apply_bpe import BPE as Merges

        # As subword-nmt reads them, which ends the process at a wrong line.
        lines = [line.strip("\r\n ") for line in merges.rstrip("\n").split("\n")]
        versioned = VERSION.fullmatch(lines[0]) is not None
        pairs = lines[1:] if versioned else lines
        odd = lines[0] if lines[0].startswith("#version:") and not versioned else None
        wrong = next((line for line in pairs if len(line.split(" ")) != 2), odd)
        if wrong is not None or not pairs:
            raise DataError(f"{name}: not BPE merges in subword-nmt's format ({(wrong or '')[:40]!r})")
        self._merges = Merges(io.StringIO(merges))

    def split(self, tokens: Iterable[str]) -> list[str]:
        """The sub-words of tokens."""
        if len(self._merges.cache) > KEPT_WORDS:
            # Another thread may be looking into the old one.
            self._merges.cache = {}
        whole = list(tokens)
        if max(map(len, whole), default=0) <= MOST_MERGED:
            return list(self._merges.segment_tokens(whole))
        return [piece for token in whole for piece in self._pieces(token)]

    def _pieces(self, token: str) -> list[str]:
        parts = [token[start : start + MOST_MERGED] for start in range(0, len(token) or 1, MOST_MERGED)]
        *first, last = (self._merges.segment_tokens([part]) for part in parts)
        return [*(piece for pieces in first for piece in (*pieces[:-1], f"{pieces[-1]}@@")), *last]

    @staticmethod
    def join(pieces: Iterable[str]) -> list[str]:
        """The tokens that sub-words make; one that should go on and does not, ends."""
        return (" ".join(pieces) + " ").replace("@@ ", "").split()


def learn_pieces(lines: Iterable[str], merges: int) -> bytes:
    """A SentencePiece model (Kudo and Richardson, 2018): so many BPE merges above characters and bytes.

    What is segmented by it comes back as it was, characters that it has never seen as well.

    Args:
        lines: normalised text; at least one that is not empty.
        merges: pieces beside the characters; a small text may have fewer.
    """
    import sentencepiece

    texts = [line for line in lines if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=META + _characters(texts) + merges,
        hard_vocab_limit=False,
        character_coverage=COVERAGE,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 24,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _characters(lines: list[str]) -> int:
    """How many characters get a piece: the most frequent that together make `COVERAGE` of the text."""
    counts = Counter(character for line in lines for character in line)
    # SentencePiece puts one blank, a character of its own, before each line.
    counts[" "] += len(lines)
    needed, covered = COVERAGE * sum(counts.values()), 0
    for number, (_, count) in enumerate(counts.most_common(), 1):
        covered += count
        if covered >= needed:
            return number
    return len(counts)


def read_model(path: Path) -> bytes:
    """A SentencePiece model of a file.

    Raises:
        DataError: it is none.
    """
    model = path.read_bytes()
    Pieces(model, str(path))
    return model


class Pieces:
    """Lines to the pieces of a SentencePiece model and back."""

    def __init__(self, model: bytes, name: str = "SentencePiece model") -> None:
        """
        Args:
            model: a serialised model.
            name: where it is from, for the error.

        Raises:
            DataError: it is none.
        """
        import sentencepiece

        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
            # Of an empty one it would say something itself.
            pieces = self._model.get_piece_size() if model else 0
        except RuntimeError:
            pieces = 0
        if not pieces:
            raise DataError(f"{name}: not a SentencePiece model")

    def normalize(self, line: str) -> str:
        """A line as the model sees it: some have rules of their own, those of `learn_pieces` have none."""
        return str(self._model.normalize(line)).replace(BLANK, " ")

    def split(self, line: str) -> list[str]:
        """The pieces of a line."""
        return list(self._model.encode(line, out_type=str)) if line else []

    def join(self, pieces: Iterable[str]) -> str:
        """The line that pieces make."""
        return str(self._model.decode(list(pieces))).strip()
