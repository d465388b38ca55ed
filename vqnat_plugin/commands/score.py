"""BLEU and chrF of what a system wrote, against plain-text references, with sacreBLEU's signatures.

The output of fairseq-generate (its D- lines; sentences are matched by number, and every one must be there) or
plain text, a sentence each line. Detokenised, cased. Both sides are put into Unicode NFC first: composed and
decomposed characters look the same. sacreBLEU's tokeniser is that of the language: zh, ja-mecab, ko-mecab,
char for others without blanks between words, 13a for the rest.

  vqnat score --sys generate-test.txt --ref test.de
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.settings import ScoringOptions
from ..options import FILE, option


@dataclass(kw_only=True)
class Options(ScoringOptions):
    """Options of `vqnat score`, named as those of fairseq-score and sacreBLEU."""

    sys: Path = option(..., "what the system wrote", exists=FILE, metavar="FILE")
    ref: tuple[Path, ...] = option(
        ..., "plain text, one sentence a line; any of several will do", exists=FILE, metavar="FILE"
    )
    target_lang: str | None = option(
        None, "language of the text (default: what the reference's name ends in)", short="-t", metavar="LANG"
    )
    name: str | None = option(None, "of the system (default: that of the file)")
    out: Path | None = option(None, "JSON file to write", metavar="FILE", writes=FILE)


def run(options: Options) -> None:
    """Score and print."""
    from ..evaluation.bleu import language_of, score_file, unnoticed_script
    from ..files import write_json
    from ..reading import read_lines
    from ..text.languages import base_language, sacrebleu_tokenizer

    if options.target_lang is not None:
        # Raises for what is no language.
        base_language(options.target_lang)
    language = options.target_lang or language_of(options.ref[0])
    tokenize = options.tokenize or sacrebleu_tokenizer(language)
    score = score_file(options.sys, options.ref, tokenize)
    name = options.name or options.sys.name
    if options.out is not None:
        files = {"sys": str(options.sys), "ref": [str(path) for path in options.ref]}
        write_json(options.out, {"system": name, **score.as_dict(), **files})
    print(
        f"{name}: BLEU {score.bleu:.2f} ({score.signature}), chrF {score.chrf:.2f} ({score.chrf_signature}), "
        f"{score.sentences} sentences"
    )
    chosen = options.tokenize or options.target_lang
    if not chosen and tokenize == "13a" and unnoticed_script(read_lines(options.ref[0])):
        print(
            f"vqnat score: {options.ref[0]}: looks like text without blanks between words, but its name does "
            "not say so; add --target-lang, such as zh, ja or th",
            file=sys.stderr,
        )
