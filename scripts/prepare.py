#!/usr/bin/env python3
"""Parallel text in, data for fairseq-train out: Moses tokens, joint BPE, fairseq's binary format.

--data is a folder with train.LANG, valid.LANG (or val, dev) and test*.LANG for both languages, one sentence a
line.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.data.prepare import prepare
from vqnat_plugin.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the raw text")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--source", default="en", metavar="LANG", help="source language (default: %(default)s)"
    )
    parser.add_argument(
        "--target", default="de", metavar="LANG", help="target language (default: %(default)s)"
    )
    parser.add_argument("--merges", type=int, default=8000, help="joint BPE merges (default: %(default)s)")
    parser.add_argument(
        "--max-length",
        type=int,
        default=175,
        help="longest training sentence, in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--max-ratio",
        type=float,
        default=2.5,
        help="largest length ratio of a training pair (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: needs at least 1")
    try:
        counts = prepare(
            options.data,
            options.out,
            options.source,
            options.target,
            merges=options.merges,
            max_length=options.max_length,
            max_ratio=options.max_ratio,
            workers=options.workers,
        )
    except DataError as error:
        sys.exit(f"prepare: {error}")
    for subset, pairs in counts.items():
        print(f"{subset}: {pairs} sentence pairs")


if __name__ == "__main__":
    main()
