"""Make a folder of parallel text, as `vqnat prepare` takes it, from the archives of a public corpus.

wmt14_en_de: Europarl v7, Common Crawl and News Commentary v9; newstest2013 for validation, all 3,003
sentences of newstest2014 as the test set. Needs training-parallel-europarl-v7.tgz,
training-parallel-commoncrawl.tgz, training-parallel-nc-v9.tgz, dev.tgz and test-full.tgz.

iwslt14_de_en: TED talks; every 23rd training pair for validation, and dev2010, dev2012, tst2010, tst2011 and
tst2012 together as the test set. Needs de-en.tgz.

Upper and lower case stay as they are. Archives that are unpacked already will do as well.
"""

from dataclasses import dataclass
from pathlib import Path

from ..data.corpora import CORPORA
from ..options import FOLDER, option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat corpus`."""

    corpus: str = option(..., "which corpus", positional=True, choices=sorted(CORPORA))
    archives: Path = option(..., "folder of the archives", metavar="DIR", exists=FOLDER)
    out: Path = option(..., "folder to write to", metavar="DIR", writes=FOLDER)


def writes_to(options: Options) -> Path:
    """The folder of the corpus."""
    return options.out


def run(options: Options) -> None:
    """Write the corpus, and count what there is."""
    from ..data.archives import make_corpus

    counts = make_corpus(CORPORA[options.corpus], options.archives, options.out)
    for split, pairs in counts.items():
        print(f"{split}: {pairs:,} sentence pairs")
