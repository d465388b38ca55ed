#!/usr/bin/env bash
# usage: examples/iwslt14_de_en/run.sh (--data DIR | --download) [--out DIR] [--check] [--dry-run]
#
# IWSLT14, German to English, with the paper's base model. Trains a Transformer base on 160,000 sentence pairs of TED
# talks, distils it with beam 4, trains vq_nat_em (the base model) on its translations, decodes the test set and
# writes report.json, report.md and plots. Uses all GPUs. Run it again to go on after a kill.
#
#   --data DIR  folder of the archive de-en.tgz, or of text: train.de, train.en, valid.de, valid.en, test.de, test.en
#   --download  fetch the archive first with wget (20 MB), to the folder of --data if given
#   --out DIR   where everything goes (default: runs/iwslt14_de_en)
#   --check     try every stage with tiny models, a few updates and a slice of the data, in minutes and without a
#               GPU; writes to check/ in the folder of --out
#   --dry-run   print the commands and run nothing
#
# UPDATE_FREQ=N in the environment makes each batch out of N smaller ones, for GPUs with less memory.
#
# The paper has no such experiment: dropout and the number of updates are usual ones for this corpus. The split into
# train, valid and test is the usual one, but letter-case is kept and scores are sacreBLEU of detokenised text: most
# published scores are of lower-cased, tokenised text, and not comparable.

OUT=runs/iwslt14_de_en
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
DATA=${DATA:-${DOWNLOAD:+$OUT/archives}}
need_data "needs --data DIR or --download"
OUT=$OUT${CHECK:+/check}

TEACHER=$OUT/teacher/checkpoint_best.pt STUDENT=$OUT/student/checkpoint_best.pt
LANGUAGES=(--source-lang de --target-lang en)
PREPARATION=(--merges 10000 --workers 8)
# The paper: Adam, inverse square root after 4,000 updates, no clipping.
TRAINING=("${LANGUAGES[@]}" --batch-tokens $((8192 / ${UPDATE_FREQ:-1})) --update-freq "${UPDATE_FREQ:-1}"
    --mixed-precision --num-workers 2 --ddp-backend legacy_ddp
    --optimizer adam --adam-betas '(0.9,0.997)' --adam-eps 1e-9 --clip-norm 0.0 --lr-scheduler inverse_sqrt
    --warmup-updates 4000 --warmup-init-lr 1e-7
    --required-batch-size-multiple 1 --max-tokens-valid 4096 --seed 1
    --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
    --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --validate-interval 100000 --validate-interval-updates 1000 --save-interval-updates 1000
    --keep-interval-updates 5 --no-epoch-checkpoints --log-format json --log-interval 100)
# Transformer base, with pre-norm, and the only model with label smoothing.
TEACHER_MODEL=(--task translation --arch transformer --share-all-embeddings
    --encoder-normalize-before --decoder-normalize-before --dropout 0.3
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 7e-4 --max-update 30000)
# Loops that the teacher falls into are not worth learning.
DISTILLATION=(--beam 4 --filter-repeats 2 --mixed-precision --workers 0)
# The base model: width 512, 4096 in feed-forward layers, six layers each; trained from scratch. Stale codes are
# replaced in the first two thirds only, so that the averaged checkpoints agree about what each code means.
STUDENT_MODEL=(--task translation_vq --arch vq_nat_em --criterion vq_nat_loss --dropout 0.3
    --codebook-size 4096 --compress-steps 3 --em-samples 10 --em-decay 0.999
    --unquantized-updates 2000 --code-revival-until 66666 --lr 1.4e-3 --max-update 100000)
AVERAGE=(--num-update-checkpoints 5)
SLICE=""
given CHECK source examples/check.sh

given DOWNLOAD stage download wget --continue --progress=dot:giga --directory-prefix "$DATA" \
    https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz
TEXT=$DATA ARCHIVES=""
[ -e "$DATA/train.de" ] || TEXT=$OUT/corpus ARCHIVES=1
given ARCHIVES stage corpus python examples/corpora.py iwslt14_de_en --archives "$DATA" --out "$TEXT"
given SLICE stage slice python examples/first_lines.py "$TEXT" "$SLICE"
stage prepare vqnat prepare --data "${SLICE:-$TEXT}" --out "$OUT/data" "${LANGUAGES[@]}" "${PREPARATION[@]}"

stage teacher vqnat train "$OUT/data/bin" "${TRAINING[@]}" "${TEACHER_MODEL[@]}" --save-dir "$OUT/training/teacher"
stage average_teacher vqnat average --inputs "$OUT/training/teacher" "${AVERAGE[@]}" --output "$TEACHER"

stage distil vqnat distill --data "$OUT/data/bin" --teacher "$TEACHER" --out "$OUT/distilled" "${LANGUAGES[@]}" \
    "${DISTILLATION[@]}"

stage student vqnat train "$OUT/distilled" "${TRAINING[@]}" "${STUDENT_MODEL[@]}" --save-dir "$OUT/training/student"
stage average_student vqnat average --inputs "$OUT/training/student" "${AVERAGE[@]}" --output "$STUDENT"

always vqnat compare "$OUT/data/bin" "${LANGUAGES[@]}" --ref "$OUT/data/reference/test.en" \
    --out "$OUT" --title "${CHECK:+Check: }IWSLT14, German to English" --seed 1 \
    --train-log teacher="$OUT/logs/teacher.log" --train-log student="$OUT/logs/student.log" \
    --max-len-a 1.2 --max-len-b 10 --baseline teacher_greedy \
    --system teacher_beam4 "$TEACHER" beam=4 \
    --system teacher_greedy "$TEACHER" \
    --system student_greedy "$STUDENT" \
    --system student_4_candidates "$STUDENT" beam=4 \
    --system student_4_rescored "$STUDENT" beam=4 rescore_with="$TEACHER"
