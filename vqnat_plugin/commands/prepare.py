"""Prepare parallel text for training: Moses tokens, joint BPE, fairseq's binary format.

--data is a folder with train.LANG, valid.LANG (or val, dev) and test*.LANG for both languages, one sentence a
line. Further references of a test set lie beside it as test.LANG.1, test.LANG.2, ...

  vqnat prepare --data text --out prepared --source-lang en --target-lang de
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FOLDER, option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat prepare`."""

    data: Path = option(..., "folder of the raw text", metavar="DIR", exists=FOLDER)
    out: Path = option(..., "folder to write to", metavar="DIR")
    source_lang: str = option("en", "source language", short="-s", metavar="LANG")
    target_lang: str = option("de", "target language", short="-t", metavar="LANG")
    merges: int = option(8000, "joint BPE merges", least=0)
    max_length: int = option(175, "longest training sentence, in tokens", least=1)
    max_ratio: float = option(2.5, "largest length ratio of a training pair", least=1)
    workers: int = option(1, "processes", least=1)


def run(options: Options) -> None:
    """Prepare, and count what there is."""
    from ..data.prepare import prepare

    counts = prepare(
        options.data,
        options.out,
        options.source_lang,
        options.target_lang,
        merges=options.merges,
        max_length=options.max_length,
        max_ratio=options.max_ratio,
        workers=options.workers,
    )
    for subset, pairs in counts.items():
        print(f"{subset}: {pairs} sentence pairs")
