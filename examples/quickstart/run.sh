#!/usr/bin/env bash
# The whole job on a small made-up corpus, from nothing to a table of results.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

HELP='usage: examples/quickstart/run.sh [--data DIR] [--out DIR]

Sets up the environment, makes a small English-German corpus with several right translations of each
sentence, trains an autoregressive teacher, distils it, trains vq_nat_em on its translations, decodes a test
set and writes report.json, report.md and plots. About twelve minutes on two cores; run it again to go on after
a kill.

  --data DIR   folder with train, valid and test text (train.en, train.de, ...) instead of the made-up corpus
  --out DIR    where everything goes (default: runs/quickstart)'

main() {
    DATA="" OUT=runs/quickstart DOWNLOAD=""
    parse_options "$@"
    "$(dirname "${BASH_SOURCE[0]}")/../../scripts/setup.sh"
    start_recipe
    if [ -z "$DATA" ]; then
        DATA=$OUT/corpus
        stage corpus scripts/make_toy_corpus.py --out "$DATA" --train 15000 --seed 1
    fi
    SHARED_OPTIONS=(--user-dir vqnat_plugin --source-lang en --target-lang de
        --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp --lr-scheduler polynomial_decay
        --required-batch-size-multiple 1 --num-workers 0 --seed 1 --validate-interval 1000
        --validate-interval-updates 400 --save-interval-updates 400 --keep-interval-updates 1
        --no-epoch-checkpoints --log-format json --log-interval 50)

    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --merges 5000
    stage teacher scripts/train.py --batch-tokens 2048 "$OUT/data/bin" "${SHARED_OPTIONS[@]}" --task translation \
        --arch transformer --share-all-embeddings --encoder-normalize-before --decoder-normalize-before \
        --encoder-embed-dim 128 --decoder-embed-dim 128 --encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512 \
        --encoder-attention-heads 4 --decoder-attention-heads 4 --encoder-layers 2 --decoder-layers 2 \
        --dropout 0.1 --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --lr 4e-3 --warmup-updates 100 --total-num-update 700 --max-update 700 --save-dir "$OUT/teacher"
    stage distil scripts/distill.py --data "$OUT/data/bin" --teacher "$OUT/teacher/checkpoint_best.pt" \
        --out "$OUT/distilled" --source-lang en --target-lang de --beam 4 --workers 2
    stage student scripts/train.py --batch-tokens 2048 "$OUT/distilled" "${SHARED_OPTIONS[@]}" --task translation_vq \
        --arch vq_nat_em_tiny --compress-steps 1 --criterion vq_nat_loss \
        --init-from-teacher "$OUT/teacher/checkpoint_best.pt" \
        --eval-bleu --eval-bleu-detok moses --eval-bleu-detok-args '{"target_lang": "de"}' --eval-bleu-remove-bpe \
        --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}' \
        --best-checkpoint-metric bleu --maximize-best-checkpoint-metric \
        --lr 3e-3 --warmup-updates 100 --total-num-update 700 --max-update 700 --unquantized-updates 60 \
        --code-revival-until 480 --save-dir "$OUT/student"

    BIN=$OUT/data/bin SOURCE=en TARGET=de SEED=1 DETOKENIZER=moses DECODE_OPTIONS=(--tokenizer moses)
    # All right translations of the made-up test set count; of other data there is one.
    shopt -s nullglob
    REFERENCES=("$DATA"/test.ref*)
    shopt -u nullglob
    [ ${#REFERENCES[@]} -gt 0 ] || REFERENCES=("$OUT/data/reference/test.de")
    TITLE="Quickstart: a made-up English-German corpus"
    evaluate
}

main "$@"
