#!/usr/bin/env bash
# usage: examples/own_corpus/run.sh --data DIR [--source-lang LANG] [--target-lang LANG] [--title TEXT]
#                                   [--updates N] [--back-translations N] [--out DIR] [--dry-run]
#
# Parallel text of your own. Trains a small autoregressive teacher on it, lets it translate the training set and, with
# --back-translations, more sources, trains vq_nat_em on these translations, exports it, and writes report.json,
# report.md and plots, and in diagnosis/ where BLEU is lost on valid. For 100,000 sentence pairs or more (Tatoeba's
# 160,000 took some 200 minutes on two cores); run it again to go on after a kill.
#
# For vqnat translate and vqnat serve there is OUT/exported, with the teacher for --verify and --rescore, and OUT/model
# without it; OUT/converted has the teacher for CTranslate2.
#
#   --data DIR          folder with train.LANG, valid.LANG (or val, dev) and test.LANG of both languages, one
#                       sentence a line, or train.tsv, ... or train.jsonl, ...; or one .tsv or .jsonl, which is split:
#                       see vqnat prepare --help
#   --source-lang LANG  language that is translated (default: en)
#   --target-lang LANG  language of the translations (default: de)
#   --title TEXT        of the report (default: the name of the folder)
#   --updates N         updates of the teacher, of 4,096 sub-words (default: 3000, seven times through Tatoeba's 1.7
#                       million; take as many times through yours); the student makes 5/3 as many
#   --back-translations N
#                       more sources for the student, each time as many as the training set has (default: 0; Multi30k,
#                       of 29,000 pairs, takes 4)
#   --out DIR           where everything goes (default: runs/own_corpus)
#   --dry-run           print the commands and run nothing

OUT=runs/own_corpus SOURCE_LANG=en TARGET_LANG=de TITLE="" UPDATES=3000 BACK_TRANSLATIONS=0
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
need_data "--data: name a folder of parallel text"
at_least 500 --updates "$UPDATES"
at_least 0 --back-translations "$BACK_TRANSLATIONS"
STUDENT_UPDATES=$((UPDATES * 5 / 3)) REVERSE_UPDATES=$((UPDATES < 1250 ? 500 : UPDATES * 2 / 5))
# Empty for none.
ROUNDS=${BACK_TRANSLATIONS#0} NOTE="the student also learns from back-translations of the training set"

TEACHER=$OUT/teacher/checkpoint_best.pt STUDENT=$OUT/student/checkpoint_best.pt
LANGUAGES=(--source-lang "$SOURCE_LANG" --target-lang "$TARGET_LANG")
REVERSE=(--source-lang "$TARGET_LANG" --target-lang "$SOURCE_LANG")
TRAINING=(--batch-tokens 4096 --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp
    --lr-scheduler polynomial_decay --required-batch-size-multiple 1 --num-workers 0 --seed 1
    --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
    --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --validate-interval 1000 --validate-interval-updates 400 --save-interval-updates 400
    --keep-interval-updates 1 --no-epoch-checkpoints --log-format json --log-interval 50)

stage prepare vqnat prepare --data "$DATA" --out "$OUT/data" "${LANGUAGES[@]}" --merges 8000 --workers 2

TEACHER_MODEL=(--task translation --arch transformer --share-all-embeddings
    --encoder-normalize-before --decoder-normalize-before --encoder-embed-dim 256 --decoder-embed-dim 256
    --encoder-ffn-embed-dim 1024 --decoder-ffn-embed-dim 1024 --encoder-attention-heads 4
    --decoder-attention-heads 4 --encoder-layers 3 --decoder-layers 3 --dropout 0.3
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 2e-3 --warmup-updates 400)
stage teacher vqnat train "$OUT/data/bin" "${LANGUAGES[@]}" "${TRAINING[@]}" "${TEACHER_MODEL[@]}" \
    --total-num-update "$UPDATES" --max-update "$UPDATES" --save-dir "$OUT/teacher"

FORWARD=("${LANGUAGES[@]}" --teacher "$TEACHER" --beam 4 --filter-repeats 2 --workers 2)
BACKWARD=("${REVERSE[@]}" --teacher "$OUT/reverse_teacher/checkpoint_best.pt"
    --sampling --sampling-topk 10 --filter-repeats 2 --workers 2)
stage distil vqnat distill --data "$OUT/data/bin" --out "$OUT/distilled" "${FORWARD[@]}"
DISTILLED=$OUT/distilled
given ROUNDS stage reverse_teacher vqnat train "$OUT/data/bin" "${REVERSE[@]}" "${TRAINING[@]}" "${TEACHER_MODEL[@]}" \
    --total-num-update "$REVERSE_UPDATES" --max-update "$REVERSE_UPDATES" --save-dir "$OUT/reverse_teacher"
given ROUNDS stages_back_translate "$ROUNDS"

stage student vqnat train "$DISTILLED" "${LANGUAGES[@]}" "${TRAINING[@]}" --task translation_vq \
    --arch vq_nat_em_small_6_1_3 --criterion vq_nat_loss --init-from-teacher "$TEACHER" --dropout 0.1 \
    --codebook-size 512 --compress-steps 2 --unquantized-updates 100 \
    --code-revival-until $((STUDENT_UPDATES * 3 / 4)) --lr 1.5e-3 --warmup-updates 200 \
    --total-num-update "$STUDENT_UPDATES" --max-update "$STUDENT_UPDATES" \
    --save-dir "$OUT/student"
stage diagnose vqnat diagnose "$STUDENT" --gen-subset valid --out "$OUT/diagnosis"

# The fastest engines that there are for both: ONNX Runtime and CTranslate2.
stage convert vqnat benchmark --convert "$TEACHER" "${LANGUAGES[@]}" --precision int8 --out "$OUT/converted"
EXPORT=(vqnat export "$STUDENT" --data "$OUT/data/bin" "${LANGUAGES[@]}")
stage export "${EXPORT[@]}" --with-teacher "$TEACHER" --out "$OUT/exported"
# Two thirds as large, for use without a teacher.
stage model "${EXPORT[@]}" --out "$OUT/model"

always vqnat compare "$OUT/data/bin" "${LANGUAGES[@]}" --ref "$OUT/data/reference/test.$TARGET_LANG" \
    --out "$OUT" --title "${TITLE:-${DATA##*/}}, $SOURCE_LANG to $TARGET_LANG, test" --seed 1 \
    ${ROUNDS:+--note "$NOTE"} \
    --train-log teacher="$OUT/logs/teacher.log" --train-log student="$OUT/logs/student.log" \
    --max-len-a 1.2 --max-len-b 10 --baseline teacher_greedy --baseline ct2_int8 \
    --system teacher_beam4 "$TEACHER" beam=4 \
    --system teacher_greedy "$TEACHER" \
    --system student_greedy "$STUDENT" \
    --system student_4_candidates "$STUDENT" beam=4 \
    --system student_4_rescored "$STUDENT" beam=4 rescore_with="$TEACHER" \
    --system ct2_int8 "$OUT/converted" \
    --system ct2_int8_beam4 "$OUT/converted" beam=4 \
    --system int8 "$OUT/exported" \
    --system int8_4 "$OUT/exported" beam=4 \
    --system int8_4_rescored "$OUT/exported" beam=4 rescore=True \
    --system int8_verified "$OUT/exported" verify=True \
    --system int8_tolerant "$OUT/exported" verify=True tolerance=2
