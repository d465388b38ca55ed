#!/usr/bin/env bash
# English-German image captions (Multi30k, task 1): teacher, distillation, student, report.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

HELP='usage: examples/multi30k/run.sh (--data DIR | --download) [--out DIR]

Trains an autoregressive teacher on Multi30k, distils it, trains vq_nat_em on its translations, and writes
report.json, report.md and plots. Run it again to go on after a kill.

  --data DIR   folder with train.en, train.de, val.en, val.de, test_2016_flickr.en, test_2016_flickr.de
  --download   fetch those files first
  --out DIR    where everything goes (default: runs/multi30k)'

train_teacher() {
    scripts/train.py --batch-tokens 4096 "$OUT/data/bin" --user-dir vqnat_plugin \
        --task translation --source-lang en --target-lang de \
        --arch transformer --share-all-embeddings --encoder-normalize-before --decoder-normalize-before \
        --encoder-embed-dim 256 --decoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --decoder-ffn-embed-dim 1024 \
        --encoder-attention-heads 4 --decoder-attention-heads 4 --encoder-layers 3 --decoder-layers 3 \
        --dropout 0.3 --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp \
        --lr 2e-3 --lr-scheduler polynomial_decay --warmup-updates 400 --total-num-update 2400 --max-update 2400 \
        --validate-interval 1000 --validate-interval-updates 400 --save-interval-updates 400 \
        --required-batch-size-multiple 1 --num-workers 0 --seed 1 \
        --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}' --eval-bleu-detok moses \
        --eval-bleu-detok-args '{"target_lang": "de"}' --eval-bleu-remove-bpe \
        --best-checkpoint-metric bleu --maximize-best-checkpoint-metric \
        --save-dir "$OUT/teacher" --keep-interval-updates 1 --no-epoch-checkpoints \
        --log-format json --log-interval 50
}

main() {
    DATA="" OUT=runs/multi30k DOWNLOAD=""
    parse_options "$@"
    start_recipe
    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --merges 8000
    stage teacher train_teacher
}

main "$@"
