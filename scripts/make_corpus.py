#!/usr/bin/env python3
"""The archives of a public corpus in, a folder of parallel text out, as scripts/prepare.py takes it.

wmt14_en_de: Europarl v7, Common Crawl and News Commentary v9; newstest2013 for validation, all 3,003
sentences of newstest2014 as the test set. Needs training-parallel-europarl-v7.tgz,
training-parallel-commoncrawl.tgz, training-parallel-nc-v9.tgz, dev.tgz and test-full.tgz.

iwslt14_de_en: TED talks; every 23rd training pair for validation, and dev2010, dev2012, tst2010, tst2011 and
tst2012 together as the test set. Needs de-en.tgz.

Upper and lower case stay as they are. Archives that are unpacked already will do as well.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.data.corpora import CORPORA, make_corpus
from vqnat_plugin.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", choices=sorted(CORPORA), help="see above")
    parser.add_argument("--archives", type=Path, required=True, metavar="DIR", help="folder of the archives")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    options = parser.parse_args()
    try:
        counts = make_corpus(CORPORA[options.corpus], options.archives, options.out)
    except (DataError, OSError) as error:
        sys.exit(f"make_corpus: {error}")
    for split, pairs in counts.items():
        print(f"{split}: {pairs:,} sentence pairs")


if __name__ == "__main__":
    main()
