#!/usr/bin/env bash
# WMT14, English to German, in the paper's setting: teacher, distillation, student, report. For GPUs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"

HELP='usage: examples/wmt14_en_de/run.sh (--data DIR | --download) [--out DIR] [--check]

Trains a Transformer base on Europarl v7, Common Crawl and News Commentary v9, distils it with beam 4, trains
vq_nat_em (the base model) on its translations, decodes newstest2014 and writes report.json, report.md and
plots. Uses all GPUs. Run it again to go on after a kill.

  --data DIR   folder of the archives: training-parallel-europarl-v7.tgz, training-parallel-commoncrawl.tgz,
               training-parallel-nc-v9.tgz, dev.tgz, test-full.tgz; or of text: train.en, train.de, valid.en,
               valid.de, test.en, test.de
  --download   fetch the archives first (1.6 GB), to the folder of --data if given
  --out DIR    where everything goes (default: runs/wmt14_en_de)
  --check      try every stage with tiny models, a few updates and a slice of the data, in minutes and without
               a GPU; writes to check/ in the folder of --out

UPDATE_FREQ=N in the environment makes each batch out of N smaller ones, for GPUs with less memory.

Scores are sacreBLEU of detokenised text. They are lower than the tokenised BLEU with split compounds that
most papers give for this test set, and not comparable with it.'

CORPUS=wmt14_en_de SOURCE=en TARGET=de OUT=runs/wmt14_en_de TITLE="WMT14, English to German, newstest2014"
URLS=(https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz
    https://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz
    https://www.statmt.org/wmt14/training-parallel-nc-v9.tgz
    https://www.statmt.org/wmt14/dev.tgz
    https://www.statmt.org/wmt14/test-full.tgz)
MERGES=32000 BATCH_TOKENS=16384 DROPOUT=0.1 TEACHER_DROPOUT=0.1
TEACHER_UPDATES=200000 STUDENT_UPDATES=300000 SAVE_INTERVAL=5000

paper_recipe "$@"
