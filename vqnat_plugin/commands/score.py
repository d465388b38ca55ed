"""BLEU of what a system wrote, against plain-text references, with sacreBLEU's signature.

The output of fairseq-generate (its D- lines; sentences are matched by number, and every one must be there) or
plain text, a sentence each line. Detokenised, cased, 13a.

  vqnat score --sys generate-test.txt --ref test.de
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FILE, option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat score`, named as those of fairseq-score."""

    sys: Path = option(..., "what the system wrote", exists=FILE, metavar="FILE")
    ref: tuple[Path, ...] = option(
        ..., "plain text, one sentence a line; any of several will do", exists=FILE, metavar="FILE"
    )
    name: str | None = option(None, "of the system (default: that of the file)")
    out: Path | None = option(None, "JSON file to write", metavar="FILE")


def run(options: Options) -> None:
    """Score and print."""
    from ..evaluation.bleu import score_file
    from ..files import write_json

    score = score_file(options.sys, options.ref)
    name = options.name or options.sys.name
    if options.out is not None:
        files = {"sys": str(options.sys), "ref": [str(path) for path in options.ref]}
        write_json(options.out, {"system": name, **score.as_dict(), **files})
    print(f"{name}: BLEU {score.bleu:.2f} ({score.signature}), {score.sentences} sentences")
