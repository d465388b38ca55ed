"""Prepare parallel text of any language for training: clean, tokenise, segment, binarise.

--data is a folder with train, valid (or val, dev) and test*, each as two files (train.LANG), as a table with
tabs (train.tsv: source and target, or columns under a first line that names the languages) or as JSON lines
(train.jsonl: {"en": "...", "de": "..."}, also under "translation"); further references of test.LANG lie
beside it as test.LANG.1, test.LANG.2, ... For fairseq, test sets are renamed to test, test1, test2, ..., in
the order of their names; the output says what each was called. Or --data is one such file, or two, from which
valid and test are held out: pairs that are neither far too long nor lopsided. Train then has no source of
theirs.

OUT/bin is the folder for training and distillation, OUT/reference has the raw text of valid and test for
scoring, OUT/bpe the sub-words. How text was treated is written to OUT/bin/text.json: training, decoding of
raw text, scoring and Python read it there.

All text is in memory: some 2.5 kB for a pair of 25 words a side. A larger corpus is prepared in parts, with
--bpe-codes, or --sentencepiece-model, and --srcdict of the first.

  vqnat prepare --data text --out prepared --source-lang en --target-lang de
  vqnat prepare --data corpus.tsv --out prepared --source-lang en --target-lang zh
"""

import sys

from ..data.settings import PrepareOptions as Options


def run(options: Options) -> None:
    """Prepare, and count what there is and what was left out."""
    from ..data.prepare import prepare

    prepared = prepare(options)
    for subset, pairs in prepared.pairs.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in prepared.dropped.most_common())
        left_out = (
            f", {prepared.dropped.total()} left out ({reasons})" if subset == "train" and reasons else ""
        )
        name = f" (was {prepared.names[subset]})" if subset in prepared.names else ""
        print(f"{subset}{name}: {pairs} sentence pairs{left_out}")
    for subset, known in prepared.known.items():
        if known:
            print(f"{subset}: {known} of its sources are in train as well, and easy for what learns from it")
    if warning := prepared.warning():
        print(f"vqnat prepare: warning: {warning}", file=sys.stderr)
