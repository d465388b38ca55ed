#!/usr/bin/env bash
# usage: examples/speed/verification.sh [--data DIR] [--out DIR] [--dry-run]
#
# What does it take to have drafts checked by a teacher (vqnat translate --verify), on this machine? Times side by
# side, one thread, at the paper's size: a Transformer in CTranslate2, and vq_nat_em_6_1_3 with that Transformer as its
# teacher, which ranks candidates or checks drafts. None is trained: without a tolerance the teacher writes each token
# itself, the worst case, with the largest it reads once, the best one. The column "passes" says how often it read on
# average, which is in the reports of trained models, too. Writes report.json and report.md. About five minutes on two
# cores; nothing else should run on the machine.
#
#   --data DIR    binarised data, en to de, whose test set is translated, instead of random words
#   --out DIR     where everything goes (default: runs/verification)
#   --dry-run     print the commands and run nothing

OUT=runs/verification
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"

LENGTH=25 BIN=${DATA:-$OUT/data} TEACHER=$OUT/teacher/checkpoint_last.pt STUDENT=$OUT/student/checkpoint_last.pt
# The one update is without effect; at its end checkpoint_last.pt is written, and no second copy, which a save
# interval of 1 would make.
TRAINING=(--batch-tokens 1024 --source-lang en --target-lang de --optimizer adam --lr 1e-9 --max-update 1
    --disable-validation --no-epoch-checkpoints --save-interval-updates 1000 --num-workers 0 --seed 1)

[ -n "$DATA" ] || stage words python examples/speed/random_words.py --out "$OUT/text" --length "$LENGTH" \
    --words 32000 --seed 1
[ -n "$DATA" ] || stage data fairseq-preprocess --source-lang en --target-lang de --trainpref "$OUT/text/test" \
    --validpref "$OUT/text/valid" --testpref "$OUT/text/test" --srcdict "$OUT/text/dict.txt" --joined-dictionary \
    --destdir "$BIN"
stage teacher vqnat train "$BIN" "${TRAINING[@]}" --task translation --criterion label_smoothed_cross_entropy \
    --arch transformer --share-all-embeddings --encoder-normalize-before --decoder-normalize-before \
    --save-dir "$OUT/teacher"
stage student vqnat train "$BIN" "${TRAINING[@]}" --task translation_vq --criterion vq_nat_loss \
    --arch vq_nat_em_6_1_3 --codebook-size 4096 --compress-steps 3 --unquantized-updates 0 --save-dir "$OUT/student"
stage convert vqnat benchmark "$BIN" --convert "$TEACHER" --precision int8 --out "$OUT/ct2"
stage export vqnat export "$STUDENT" --with-teacher "$TEACHER" --precision int8 --out "$OUT/exported"

always vqnat benchmark "$BIN" --out "$OUT" --min-len "$LENGTH" --max-len-b "$LENGTH" --batch-sizes 1 \
    --sentences 40 --warmup 1 --profile --seed 1 \
    --note "untrained: passes are set by tolerances, half of the sentences may have far more or fewer" \
    --title "Checking drafts at the paper's size: $LENGTH tokens a sentence, untrained models" \
    --baseline ct2_greedy --baseline ct2_beam4 \
    --system ct2_greedy "$OUT/ct2" \
    --system ct2_beam4 "$OUT/ct2" beam=4 \
    --system draft "$OUT/exported" \
    --system candidates_4 "$OUT/exported" candidates=4 \
    --system rescored_4 "$OUT/exported" candidates=4 rescore=True \
    --system rescored_10 "$OUT/exported" candidates=10 rescore=True \
    --system verified "$OUT/exported" verify=True \
    --system tolerance_11.5 "$OUT/exported" verify=True tolerance=11.5 \
    --system tolerance_12 "$OUT/exported" verify=True tolerance=12 \
    --system tolerance_14 "$OUT/exported" verify=True tolerance=14
