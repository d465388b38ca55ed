#!/usr/bin/env bash
# usage: examples/speed/run.sh [--data DIR] [--length N] [--out DIR] [--dry-run]
#
# How many times faster is the student at the paper's size, on this machine? Times a Transformer base and the base
# model of vq_nat_em side by side, on the GPU if there is one, and writes report.json and report.md. Both are
# untrained: that changes what they say, not how long it takes. Sources and translations all have N tokens, of a
# vocabulary of 32,000. Minutes; nothing else should run on the machine.
#
#   --data DIR  binarised data, en to de, whose test set is translated, instead of random words; N is then the length
#               of the translations
#   --length N  tokens of a sentence (default: 25)
#   --out DIR   where everything goes (default: runs/speed)
#   --dry-run   print the commands and run nothing

OUT=runs/speed LENGTH=25
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
at_least 1 --length "$LENGTH"

BIN=${DATA:-$OUT/data}
TEACHER=$OUT/teacher/checkpoint_last.pt STUDENT=$OUT/student/checkpoint_last.pt
# The one update is without effect; at its end checkpoint_last.pt is written, and no second copy, which a save
# interval of 1 would make.
TRAINING=(--batch-tokens 1024 --source-lang en --target-lang de --optimizer adam --lr 1e-9 --max-update 1
    --disable-validation --no-epoch-checkpoints --save-interval-updates 1000 --num-workers 0 --seed 1)
EXACTLY=(min_len="$LENGTH" max_len_b="$LENGTH")

[ -n "$DATA" ] || stage words python examples/speed/random_words.py --out "$OUT/text" --length "$LENGTH" --seed 1
[ -n "$DATA" ] || stage data fairseq-preprocess --source-lang en --target-lang de --trainpref "$OUT/text/test" \
    --validpref "$OUT/text/test" --testpref "$OUT/text/test" --srcdict "$OUT/text/dict.txt" --joined-dictionary \
    --destdir "$BIN"

# The sizes of the paper.
stage teacher vqnat train "$BIN" "${TRAINING[@]}" --task translation --arch transformer --share-all-embeddings \
    --encoder-normalize-before --decoder-normalize-before --criterion label_smoothed_cross_entropy \
    --save-dir "$OUT/teacher"
stage student vqnat train "$BIN" "${TRAINING[@]}" --task translation_vq --arch vq_nat_em --criterion vq_nat_loss \
    --codebook-size 4096 --compress-steps 3 --unquantized-updates 0 --save-dir "$OUT/student"

always vqnat benchmark "$BIN" --out "$OUT" --baseline teacher_greedy --seed 1 \
    --title "Speed at the paper's size: $LENGTH tokens a sentence, untrained models" \
    --system teacher_beam4 "$TEACHER" beam=4 "${EXACTLY[@]}" \
    --system teacher_greedy "$TEACHER" "${EXACTLY[@]}" \
    --system student_greedy "$STUDENT" "${EXACTLY[@]}" \
    --system student_4_candidates "$STUDENT" beam=4 "${EXACTLY[@]}"
