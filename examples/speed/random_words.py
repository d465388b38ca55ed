"""Sentences of random words: test.en, test.de and dict.txt, the vocabulary of fairseq-preprocess."""

import argparse
import random
from pathlib import Path

WORDS = [f"w{number}" for number in range(32000)]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
parser.add_argument("--length", type=int, default=25, metavar="N", help="words of a sentence (default: 25)")
parser.add_argument("--sentences", type=int, default=400, metavar="N", help="how many (default: 400)")
parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
options = parser.parse_args()

options.out.mkdir(parents=True, exist_ok=True)
(options.out / "dict.txt").write_text("".join(f"{word} 1\n" for word in WORDS))
rng = random.Random(options.seed)
for language in ("en", "de"):
    lines = [" ".join(rng.choices(WORDS, k=options.length)) + "\n" for _ in range(options.sentences)]
    (options.out / f"test.{language}").write_text("".join(lines))
