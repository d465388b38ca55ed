"""Sentences of random words: test and a few of valid, in en and de, and dict.txt, their vocabulary."""

import argparse
import random
from pathlib import Path

from vqnat_plugin.files import write_lines

# Of the validation set, which an export translates.
FEW = 4

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
parser.add_argument("--length", type=int, default=25, metavar="N", help="words of a sentence (default: 25)")
parser.add_argument(
    "--words", type=int, default=32000, metavar="N", help="of the vocabulary (default: 32000)"
)
parser.add_argument("--sentences", type=int, default=400, metavar="N", help="of test (default: 400)")
parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
options = parser.parse_args()

words = [f"w{number}" for number in range(options.words)]
write_lines(options.out / "dict.txt", (f"{word} 1" for word in words))
rng = random.Random(options.seed)
for split, count in (("test", options.sentences), ("valid", FEW)):
    for language in ("en", "de"):
        lines = [" ".join(rng.choices(words, k=options.length)) for _ in range(count)]
        write_lines(options.out / f"{split}.{language}", lines)
