#!/usr/bin/env bash
# usage: examples/ablations/run.sh --data DIR [--kinds] [--out DIR] [--dry-run]
#
# The paper's comparisons with small models. Trains a small teacher on English-German text, distils it, then trains
# and measures everything in grid.yaml, two trainings side by side, and writes report.md, report.json and plots. Hours
# on two cores; run it again to go on after a kill.
#
#   --data DIR  folder with train.en, train.de, val.en, val.de, test*.en, test*.de (Multi30k, for example)
#   --kinds     take kinds.yaml instead, EM beside what came after it; its report takes the place of the other in DIR
#   --out DIR   where everything goes (default: runs/ablations)
#   --dry-run   print the commands and run nothing

OUT=runs/ablations KINDS=""
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
need_data "needs --data DIR"

stage prepare vqnat prepare --data "$DATA" --out "$OUT/data" --source-lang en --target-lang de --merges 6000

# Of the width of the students in the grids, which start from it.
stage teacher vqnat train "$OUT/data/bin" --batch-tokens 4096 --source-lang en --target-lang de \
    --task translation --arch transformer --share-all-embeddings \
    --encoder-normalize-before --decoder-normalize-before --encoder-embed-dim 128 --decoder-embed-dim 128 \
    --encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512 --encoder-attention-heads 4 \
    --decoder-attention-heads 4 --encoder-layers 2 --decoder-layers 2 --dropout 0.2 \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --optimizer adam --adam-betas '(0.9,0.98)' \
    --clip-norm 1.0 --amp --lr-scheduler polynomial_decay --lr 4e-3 --warmup-updates 300 \
    --total-num-update 2400 --max-update 2400 --required-batch-size-multiple 1 --num-workers 0 --seed 1 \
    --validate-interval 1000 --validate-interval-updates 600 --save-interval-updates 600 \
    --keep-interval-updates 1 --no-epoch-checkpoints --log-format json --log-interval 50 \
    --save-dir "$OUT/teacher"

stage distil vqnat distill --data "$OUT/data/bin" --teacher "$OUT/teacher/checkpoint_best.pt" \
    --out "$OUT/distilled" --source-lang en --target-lang de --beam 4 --filter-repeats 2 --workers 2

GRID=${KINDS:+kinds}
always vqnat ablate "examples/ablations/${GRID:-grid}.yaml" --data "$OUT/data/bin" --distilled "$OUT/distilled" \
    --teacher "$OUT/teacher/checkpoint_best.pt" --ref "$OUT/data/reference/test.de" --out "$OUT"
