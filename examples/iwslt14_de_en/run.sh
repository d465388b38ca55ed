#!/usr/bin/env bash
# IWSLT14, German to English, with the paper's base model: teacher, distillation, student, report. For GPUs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"

HELP='usage: examples/iwslt14_de_en/run.sh (--data DIR | --download) [--out DIR] [--check]

Trains a Transformer base on 160,000 sentence pairs of TED talks, distils it with beam 4, trains vq_nat_em (the
base model) on its translations, decodes the test set and writes report.json, report.md and plots. Uses all
GPUs. Run it again to go on after a kill.

  --data DIR   folder of the archive de-en.tgz, or of text: train.de, train.en, valid.de, valid.en, test.de,
               test.en
  --download   fetch the archive first (20 MB), to the folder of --data if given
  --out DIR    where everything goes (default: runs/iwslt14_de_en)
  --check      try every stage with tiny models, a few updates and a slice of the data, in minutes and without
               a GPU; writes to check/ in the folder of --out

UPDATE_FREQ=N in the environment makes each batch out of N smaller ones, for GPUs with less memory.

The paper has no such experiment: dropout and the number of updates are usual ones for this corpus. The split
into train, valid and test is the usual one, but letter-case is kept and scores are sacreBLEU of detokenised
text: most published scores are of lower-cased, tokenised text, and not comparable.'

CORPUS=iwslt14_de_en SOURCE=de TARGET=en OUT=runs/iwslt14_de_en TITLE="IWSLT14, German to English"
URLS=(https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz)
MERGES=10000 BATCH_TOKENS=8192 DROPOUT=0.3 TEACHER_DROPOUT=0.3
TEACHER_UPDATES=30000 STUDENT_UPDATES=100000 SAVE_INTERVAL=1000

paper_recipe "$@"
