#!/usr/bin/env python3
"""Make a small English-German corpus: grammatical, seeded, with several right translations of each sentence.

Writes train, valid and test as SPLIT.en and SPLIT.de, and test.ref0 (as test.de), test.ref1, ... with the
other valid translations of the test set. Score against all of them: one file shows one of up to twelve.
"""

import argparse
from pathlib import Path

from vqnat_plugin.data.toy_corpus import generate, write_corpus
from vqnat_plugin.data.toy_grammar import STYLES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    for split, size in (("train", 20000), ("valid", 500), ("test", 500)):
        parser.add_argument(
            f"--{split}", type=int, default=size, metavar="N", help="sentence pairs (default: %(default)s)"
        )
    parser.add_argument(
        "--references",
        type=int,
        default=len(STYLES),
        metavar="N",
        help="number of reference files for test (default: %(default)s, all that differ)",
    )
    options = parser.parse_args()
    for name, least in (("train", 1), ("valid", 1), ("test", 1), ("references", 0)):
        value = getattr(options, name)
        if value < least:
            parser.error(f"--{name} {value}: needs at least {least}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: is not a folder")

    # Small splits first: they stay the same whatever the size of train.
    sizes = {split: getattr(options, split) for split in ("test", "valid", "train")}
    write_corpus(options.out, generate(options.seed, sizes), options.references)
    print(
        f"{options.out}: {options.train} sentence pairs for train, {options.valid} for valid, "
        f"{options.test} for test with {options.references} references"
    )


if __name__ == "__main__":
    main()
