#!/usr/bin/env bash
# usage: examples/speed/run.sh [--size NAME] [--length N] [--data DIR] [--out DIR] [--dry-run]
#
# How fast is what, on this machine? Times side by side, one thread: Transformers in fairseq and in CTranslate2 (fp32
# and int8, greedy and with a beam of 4; also such with one decoder layer), and models of vq_nat_em in PyTorch and
# exported (fp32 and int8, greedy and with 4 candidates). None is trained: that changes what they say, not how long it
# takes. Sources and translations all have N tokens. Writes report.json and report.md. About 20 minutes and 10 GB of
# memory on two cores; nothing else should run on the machine.
#
#   --size NAME   paper: d 512, 32,000 words; small: d 256, 8,000 words (default: paper)
#   --length N    tokens of a sentence (default: 25, small 16)
#   --data DIR    binarised data, en to de, whose test set is translated, instead of random words; N is then the length
#                 of the translations. An export translates up to 1,000 sentences of its validation set
#   --out DIR     where everything goes (default: runs/speed)
#   --dry-run     print the commands and run nothing

OUT=runs/speed SIZE=paper LENGTH=""
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"

[[ $SIZE =~ ^(paper|small)$ ]] || fail "--size $SIZE: needs paper or small"
# Layers of encoder and decoder: all of them, one in the decoder, and those of the decoder in the encoder.
FULL=6-6 SHALLOW=6-1 DEEP=12-1 WORDS=32000
TRANSFORMER=(--arch transformer)
# The paper's shape, and one for speed.
LATENTS=(--codebook-size 4096 --compress-steps 3)
BASE=(--arch vq_nat_em "${LATENTS[@]}") FAST=(--arch vq_nat_em_6_1_3 "${LATENTS[@]}")
[ "$SIZE" = paper ] || FULL=3-3 SHALLOW=3-1 DEEP=6-1 WORDS=8000 LENGTH=${LENGTH:-16}
[ "$SIZE" = paper ] || TRANSFORMER+=(--encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --encoder-attention-heads 4
    --decoder-embed-dim 256 --decoder-ffn-embed-dim 1024 --decoder-attention-heads 4)
[ "$SIZE" = paper ] || BASE=(--arch vq_nat_em_small) FAST=(--arch vq_nat_em_small_6_1_3)
LENGTH=${LENGTH:-25}
at_least 1 --length "$LENGTH"

BIN=${DATA:-$OUT/data}
# The one update is without effect; at its end checkpoint_last.pt is written, and no second copy, which a save
# interval of 1 would make.
TRAINING=(--batch-tokens 1024 --source-lang en --target-lang de --optimizer adam --lr 1e-9 --max-update 1
    --disable-validation --no-epoch-checkpoints --save-interval-updates 1000 --num-workers 0 --seed 1)
TEACHER=(vqnat train "$BIN" "${TRAINING[@]}" --task translation --criterion label_smoothed_cross_entropy
    "${TRANSFORMER[@]}" --share-all-embeddings --encoder-normalize-before --decoder-normalize-before)
STUDENT=(vqnat train "$BIN" "${TRAINING[@]}" --task translation_vq --criterion vq_nat_loss --unquantized-updates 0)
CONVERT=(vqnat benchmark "$BIN" --convert)
FULL_PT=$OUT/full/checkpoint_last.pt SHALLOW_PT=$OUT/shallow/checkpoint_last.pt DEEP_PT=$OUT/deep/checkpoint_last.pt
BASE_PT=$OUT/base/checkpoint_last.pt FAST_PT=$OUT/fast/checkpoint_last.pt

[ -n "$DATA" ] || stage words python examples/speed/random_words.py --out "$OUT/text" --length "$LENGTH" \
    --words "$WORDS" --seed 1
[ -n "$DATA" ] || stage data fairseq-preprocess --source-lang en --target-lang de --trainpref "$OUT/text/test" \
    --validpref "$OUT/text/valid" --testpref "$OUT/text/test" --srcdict "$OUT/text/dict.txt" --joined-dictionary \
    --destdir "$BIN"

stage full "${TEACHER[@]}" --encoder-layers "${FULL%-*}" --decoder-layers "${FULL#*-}" --save-dir "$OUT/full"
stage shallow "${TEACHER[@]}" --encoder-layers "${SHALLOW%-*}" --decoder-layers "${SHALLOW#*-}" \
    --save-dir "$OUT/shallow"
stage deep "${TEACHER[@]}" --encoder-layers "${DEEP%-*}" --decoder-layers "${DEEP#*-}" --save-dir "$OUT/deep"
stage full_fp32 "${CONVERT[@]}" "$FULL_PT" --precision fp32 --out "$OUT/ct2/full_fp32"
stage full_int8 "${CONVERT[@]}" "$FULL_PT" --precision int8 --out "$OUT/ct2/full_int8"
stage shallow_fp32 "${CONVERT[@]}" "$SHALLOW_PT" --precision fp32 --out "$OUT/ct2/shallow_fp32"
stage shallow_int8 "${CONVERT[@]}" "$SHALLOW_PT" --precision int8 --out "$OUT/ct2/shallow_int8"
stage deep_fp32 "${CONVERT[@]}" "$DEEP_PT" --precision fp32 --out "$OUT/ct2/deep_fp32"
stage deep_int8 "${CONVERT[@]}" "$DEEP_PT" --precision int8 --out "$OUT/ct2/deep_int8"

stage base "${STUDENT[@]}" "${BASE[@]}" --save-dir "$OUT/base"
stage fast "${STUDENT[@]}" "${FAST[@]}" --save-dir "$OUT/fast"
stage base_fp32 vqnat export "$BASE_PT" --precision fp32 --out "$OUT/exported/base_fp32"
stage base_int8 vqnat export "$BASE_PT" --precision int8 --out "$OUT/exported/base_int8"
stage fast_fp32 vqnat export "$FAST_PT" --precision fp32 --out "$OUT/exported/fast_fp32"
stage fast_int8 vqnat export "$FAST_PT" --precision int8 --out "$OUT/exported/fast_int8"

always vqnat benchmark "$BIN" --out "$OUT" --min-len "$LENGTH" --max-len-b "$LENGTH" --batch-sizes 1 32 \
    --sentences 20 --warmup 1 --profile --seed 1 \
    --title "Speed at the $SIZE size: $LENGTH tokens a sentence, untrained models" \
    --baseline "ct2_${FULL}_int8" --baseline "ct2_${SHALLOW}_int8" --baseline "ct2_${FULL}_fp32" \
    --system "fairseq_$FULL" "$FULL_PT" \
    --system "fairseq_${FULL}_beam4" "$FULL_PT" beam=4 \
    --system "ct2_${FULL}_fp32" "$OUT/ct2/full_fp32" \
    --system "ct2_${FULL}_fp32_beam4" "$OUT/ct2/full_fp32" beam=4 \
    --system "ct2_${FULL}_int8" "$OUT/ct2/full_int8" \
    --system "ct2_${FULL}_int8_beam4" "$OUT/ct2/full_int8" beam=4 \
    --system "ct2_${SHALLOW}_fp32" "$OUT/ct2/shallow_fp32" \
    --system "ct2_${SHALLOW}_fp32_beam4" "$OUT/ct2/shallow_fp32" beam=4 \
    --system "ct2_${SHALLOW}_int8" "$OUT/ct2/shallow_int8" \
    --system "ct2_${SHALLOW}_int8_beam4" "$OUT/ct2/shallow_int8" beam=4 \
    --system "ct2_${DEEP}_fp32" "$OUT/ct2/deep_fp32" \
    --system "ct2_${DEEP}_fp32_beam4" "$OUT/ct2/deep_fp32" beam=4 \
    --system "ct2_${DEEP}_int8" "$OUT/ct2/deep_int8" \
    --system "ct2_${DEEP}_int8_beam4" "$OUT/ct2/deep_int8" beam=4 \
    --system base_pytorch "$BASE_PT" \
    --system base_pytorch_4 "$BASE_PT" beam=4 \
    --system base_fp32 "$OUT/exported/base_fp32" \
    --system base_fp32_4 "$OUT/exported/base_fp32" candidates=4 \
    --system base_int8 "$OUT/exported/base_int8" \
    --system base_int8_4 "$OUT/exported/base_int8" candidates=4 \
    --system fast_pytorch "$FAST_PT" \
    --system fast_pytorch_4 "$FAST_PT" beam=4 \
    --system fast_fp32 "$OUT/exported/fast_fp32" \
    --system fast_fp32_4 "$OUT/exported/fast_fp32" candidates=4 \
    --system fast_int8 "$OUT/exported/fast_int8" \
    --system fast_int8_4 "$OUT/exported/fast_int8" candidates=4
