#!/usr/bin/env bash
# usage: examples/multi30k/run.sh (--data DIR | --download) [--out DIR] [--shapes] [--seeds] [--dry-run]
#
# English-German image captions (Multi30k, task 1). Trains an autoregressive teacher, lets it translate the training
# set and back-translations of it, trains vq_nat_em on these translations, exports it, and writes report.json,
# report.md and plots, and in diagnosis/ where BLEU is lost on valid. Run it again to go on after a kill.
#
#   --data DIR  folder with train.en, train.de, val.en, val.de, test_2016_flickr.en, test_2016_flickr.de
#   --download  fetch those files first, with wget, to the folder of --data if given, and unpack them there
#   --out DIR   where everything goes (default: runs/multi30k)
#   --shapes    train students of other shapes as well, in the same way, and report them beside the others
#   --seeds     train the student with the seeds 2 and 3 as well, and report all three in OUT/seeds
#   --dry-run   print the commands and run nothing

OUT=runs/multi30k SHAPES="" SEEDS=""
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
DATA=${DATA:-${DOWNLOAD:+$OUT/raw}}
need_data "--data: name a folder of Multi30k, or say --download"

TEACHER=$OUT/teacher/checkpoint_best.pt STUDENT=$OUT/student/checkpoint_best.pt
URL=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw
TRAINING=(--batch-tokens 4096 --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp
    --lr-scheduler polynomial_decay --required-batch-size-multiple 1 --num-workers 0 --seed 1
    --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
    --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --validate-interval 1000 --validate-interval-updates 400 --save-interval-updates 400
    --keep-interval-updates 1 --no-epoch-checkpoints --log-format json --log-interval 50)
TEACHER_MODEL=(--task translation --arch transformer --share-all-embeddings
    --encoder-normalize-before --decoder-normalize-before --encoder-embed-dim 256 --decoder-embed-dim 256
    --encoder-ffn-embed-dim 1024 --decoder-ffn-embed-dim 1024 --encoder-attention-heads 4
    --decoder-attention-heads 4 --encoder-layers 3 --decoder-layers 3 --dropout 0.3
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 2e-3 --warmup-updates 400)
FORWARD=(--source-lang en --target-lang de --teacher "$TEACHER"
    --beam 4 --lenpen 1.5 --filter-repeats 2 --workers 2)
BACKWARD=(--source-lang de --target-lang en --teacher "$OUT/reverse_teacher/checkpoint_best.pt"
    --sampling --sampling-topk 10 --filter-repeats 2 --workers 2)

given DOWNLOAD stage download wget --continue --progress=dot:giga --directory-prefix "$DATA" \
    "$URL"/{train,val,test_2016_flickr}.{en,de}.gz
given DOWNLOAD stage unpack gunzip --keep --force "$DATA"/{train,val,test_2016_flickr}.{en,de}.gz
stage prepare vqnat prepare --data "$DATA" --out "$OUT/data" --source-lang en --target-lang de --merges 8000

stage teacher vqnat train "$OUT/data/bin" "${TRAINING[@]}" --source-lang en --target-lang de \
    "${TEACHER_MODEL[@]}" \
    --total-num-update 2400 --max-update 2400 --save-dir "$OUT/teacher"
stage distil vqnat distill --data "$OUT/data/bin" --out "$OUT/distilled" "${FORWARD[@]}"

DISTILLED=$OUT/distilled
# The student, above all its predictor, has seen too few sources.
stage reverse_teacher vqnat train "$OUT/data/bin" "${TRAINING[@]}" --source-lang de --target-lang en \
    "${TEACHER_MODEL[@]}" \
    --total-num-update 1000 --max-update 1000 --save-dir "$OUT/reverse_teacher"
stages_back_translate 4

STUDENTS=(vqnat train "$DISTILLED" "${TRAINING[@]}" --source-lang en --target-lang de --task translation_vq
    --criterion vq_nat_loss --init-from-teacher "$TEACHER" --dropout 0.1 --codebook-size 512 --compress-steps 2
    --unquantized-updates 100 --code-revival-until 2250 --lr 1.5e-3 --warmup-updates 200
    --total-num-update 3200 --max-update 3200)
stage student "${STUDENTS[@]}" --arch vq_nat_em_small_6_1_3 --save-dir "$OUT/student"
stage diagnose vqnat diagnose "$STUDENT" --gen-subset valid --out "$OUT/diagnosis"
# Layers of encoder, latent predictor and decoder.
given SHAPES stage shape_6_2_3 "${STUDENTS[@]}" --arch vq_nat_em_small_6_2_3 --save-dir "$OUT/shape_6_2_3"
given SHAPES stage shape_3_3_3 "${STUDENTS[@]}" --arch vq_nat_em_small --save-dir "$OUT/shape_3_3_3"
given SHAPES stage shape_3_1_3 "${STUDENTS[@]}" --arch vq_nat_em_small --predictor-layers 1 \
    --save-dir "$OUT/shape_3_1_3"

# The fastest engines that there are for both: ONNX Runtime and CTranslate2.
EXPORT=(vqnat export --data "$OUT/data/bin" --source-lang en --target-lang de)
CONVERT=(vqnat benchmark --convert "$TEACHER" --source-lang en --target-lang de)
stage convert_fp32 "${CONVERT[@]}" --precision fp32 --out "$OUT/converted/fp32"
stage convert_int8 "${CONVERT[@]}" --precision int8 --out "$OUT/converted/int8"
stage export "${EXPORT[@]}" "$STUDENT" --with-teacher "$TEACHER" --out "$OUT/exported/student"
given SHAPES stage export_6_2_3 "${EXPORT[@]}" "$OUT/shape_6_2_3" --out "$OUT/exported/6_2_3"
given SHAPES stage export_3_3_3 "${EXPORT[@]}" "$OUT/shape_3_3_3" --out "$OUT/exported/3_3_3"
given SHAPES stage export_3_1_3 "${EXPORT[@]}" "$OUT/shape_3_1_3" --out "$OUT/exported/3_1_3"

# lenpen and tolerance were chosen on valid: the student's own score favours short outputs.
SHAPE_SYSTEMS=(--system int8_6_2_3 "$OUT/exported/6_2_3" --system int8_6_2_3_4 "$OUT/exported/6_2_3" beam=4 lenpen=2
    --system int8_3_3_3 "$OUT/exported/3_3_3" --system int8_3_3_3_4 "$OUT/exported/3_3_3" beam=4 lenpen=2
    --system int8_3_1_3 "$OUT/exported/3_1_3" --system int8_3_1_3_4 "$OUT/exported/3_1_3" beam=4 lenpen=2)
always vqnat compare "$OUT/data/bin" --source-lang en --target-lang de --ref "$OUT/data/reference/test.de" \
    --out "$OUT" --title "Multi30k, English to German, test_2016_flickr" --seed 1 \
    --note "the student also learns from back-translations of the training set" \
    --train-log teacher="$OUT/logs/teacher.log" --train-log student="$OUT/logs/student.log" \
    --max-len-a 1.2 --max-len-b 10 --baseline teacher_greedy --baseline ct2_int8 \
    --system teacher_beam4 "$TEACHER" beam=4 \
    --system teacher_greedy "$TEACHER" \
    --system student_greedy "$STUDENT" \
    --system student_4_candidates "$STUDENT" beam=4 lenpen=2 \
    --system student_4_rescored "$STUDENT" beam=4 rescore_with="$TEACHER" \
    --system ct2_fp32 "$OUT/converted/fp32" \
    --system ct2_int8 "$OUT/converted/int8" \
    --system ct2_int8_beam4 "$OUT/converted/int8" beam=4 \
    --system int8 "$OUT/exported/student" \
    --system int8_4 "$OUT/exported/student" beam=4 lenpen=2 \
    --system int8_4_rescored "$OUT/exported/student" beam=4 rescore=True \
    --system int8_verified "$OUT/exported/student" verify=True \
    --system int8_tolerant "$OUT/exported/student" verify=True tolerance=3 ${SHAPES:+"${SHAPE_SYSTEMS[@]}"}

# Students that differ in nothing but their seed.
given SEEDS stage student_2 "${STUDENTS[@]}" --arch vq_nat_em_small_6_1_3 --seed 2 --save-dir "$OUT/student_2"
given SEEDS stage export_2 "${EXPORT[@]}" "$OUT/student_2" --with-teacher "$TEACHER" --out "$OUT/exported/student_2"
given SEEDS stage student_3 "${STUDENTS[@]}" --arch vq_nat_em_small_6_1_3 --seed 3 --save-dir "$OUT/student_3"
given SEEDS stage export_3 "${EXPORT[@]}" "$OUT/student_3" --with-teacher "$TEACHER" --out "$OUT/exported/student_3"
given SEEDS always vqnat compare "$OUT/data/bin" --source-lang en --target-lang de --ref "$OUT/data/reference/test.de" \
    --out "$OUT/seeds" --title "Multi30k, students of three seeds" --seed 1 \
    --max-len-a 1.2 --max-len-b 10 --batch-sizes 1 --baseline ct2_int8 \
    --system ct2_int8 "$OUT/converted/int8" \
    --system seed_1 "$OUT/exported/student" \
    --system seed_2 "$OUT/exported/student_2" \
    --system seed_3 "$OUT/exported/student_3" \
    --system seed_1_4 "$OUT/exported/student" beam=4 lenpen=2 \
    --system seed_2_4 "$OUT/exported/student_2" beam=4 lenpen=2 \
    --system seed_3_4 "$OUT/exported/student_3" beam=4 lenpen=2 \
    --system seed_1_4_rescored "$OUT/exported/student" beam=4 rescore=True \
    --system seed_2_4_rescored "$OUT/exported/student_2" beam=4 rescore=True \
    --system seed_3_4_rescored "$OUT/exported/student_3" beam=4 rescore=True \
    --system seed_1_verified "$OUT/exported/student" verify=True \
    --system seed_2_verified "$OUT/exported/student_2" verify=True \
    --system seed_3_verified "$OUT/exported/student_3" verify=True \
    --system seed_1_tolerant "$OUT/exported/student" verify=True tolerance=3 \
    --system seed_2_tolerant "$OUT/exported/student_2" verify=True tolerance=3 \
    --system seed_3_tolerant "$OUT/exported/student_3" verify=True tolerance=3
