"""What is asked of preparing text: the options of `vqnat prepare`."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..options import FILE, FOLDER, MOST_PROCESSES, PATH, option, require
from ..text.normalize import FORMS
from ..text.pipeline import TOKENIZERS

# SentencePiece counts its pieces in 32 bits.
MOST_MERGES = 1 << 30
# Where so large a share of the training pairs is left out, something is likely to be wrong.
SUSPICIOUS = 0.05

TEXT = (
    "text: the text pipeline, written to text.json beside the dictionaries; whatever reads the data uses it"
)
GIVEN = "given: in place of what would be made from the training text"
FILTERS = "filters: training pairs that are left out; they are counted by reason, valid and test stay whole"


@dataclass(kw_only=True)
class PrepareOptions:
    """Options of `vqnat prepare`, named as those of fairseq-preprocess where it has them."""

    data: tuple[Path, ...] = option(
        ...,
        "folder of the raw text; or one file, or two (source, then target), to be split",
        metavar=("DIR", "FILE"),
        exists=PATH,
    )
    out: Path = option(..., "folder to write to", metavar="DIR", writes=FOLDER)
    source_lang: str = option("en", "source language", short="-s", metavar="LANG")
    target_lang: str = option("de", "target language", short="-t", metavar="LANG")
    held_out: int | None = option(
        None,
        "pairs of valid, and of test, where --data is files (default: one in 20, at most 2000)",
        least=1,
    )
    tokenizer: str | None = option(
        None,
        "moses, with BPE by subword-nmt; or sentencepiece, which needs no blanks between words (default: "
        "moses where both languages are written in Latin, Greek or Cyrillic script)",
        choices=TOKENIZERS,
        group=TEXT,
    )
    normalization: str = option("nfc", "form of Unicode", choices=tuple(FORMS), group=TEXT)
    merges: int = option(8000, "joint BPE merges; 0 for none", least=0, most=MOST_MERGES, group=TEXT)
    bpe_codes: Path | None = option(None, "merges of subword-nmt", exists=FILE, metavar="FILE", group=GIVEN)
    sentencepiece_model: Path | None = option(
        None, "a SentencePiece model", exists=FILE, metavar="FILE", group=GIVEN
    )
    srcdict: Path | None = option(
        None, "fairseq's dictionary of both sides, or of the source", exists=FILE, metavar="FILE", group=GIVEN
    )
    tgtdict: Path | None = option(
        None, "that of the target, if it is another", exists=FILE, metavar="FILE", group=GIVEN
    )
    max_length: int = option(
        175, "longest sentence, in tokens (pieces with sentencepiece)", least=1, group=FILTERS
    )
    max_ratio: float = option(
        2.5,
        "largest ratio of the lengths of a pair, beside that of all pairs together",
        least=1,
        group=FILTERS,
    )
    workers: int = option(1, "processes", least=1, most=MOST_PROCESSES)

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        if len(self.data) > 2:
            raise UsageError(f"--data {' '.join(map(str, self.data))}: needs a folder, a file or two files")
        if len(self.data) > 1 and any(path.is_dir() for path in self.data):
            raise UsageError(f"--data {' '.join(map(str, self.data))}: a folder stands alone")
        require(self, "held_out", self.held_out is None or not self.data[0].is_dir(), "a corpus in files")
        same = self.source_lang.casefold() == self.target_lang.casefold()
        require(self, "target_lang", not same, "another language than the source")
        require(self, "out", "," not in str(self.out), "a name without ',', at which fairseq splits it")
        if self.bpe_codes and self.sentencepiece_model:
            raise UsageError("--bpe-codes, --sentencepiece-model: only one of them")
        for name, kind in (("bpe_codes", "moses"), ("sentencepiece_model", "sentencepiece")):
            if getattr(self, name):
                require(self, name, self.tokenizer in (None, kind), f"--tokenizer {kind}")
        given = bool(self.bpe_codes or self.sentencepiece_model)
        if given:
            unset = self.merges == type(self).merges
            require(self, "merges", unset, "no --bpe-codes and no --sentencepiece-model beside it")
        if self.srcdict:
            needed = "--bpe-codes or --sentencepiece-model, whose sub-words it counts, or --merges 0"
            require(self, "srcdict", given or self.merges == 0, needed)
        if self.tgtdict:
            require(self, "tgtdict", self.srcdict is not None, "--srcdict beside it")

    def wanted_tokenizer(self) -> str | None:
        """The tokeniser that is asked for, by its name or by its model."""
        given = "moses" if self.bpe_codes else "sentencepiece" if self.sentencepiece_model else None
        return self.tokenizer or given
