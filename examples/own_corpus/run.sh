#!/usr/bin/env bash
# Parallel text of your own: teacher, distillation, student, report, with small models.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../small.sh"

HELP='usage: examples/own_corpus/run.sh --data DIR [--source LANG] [--target LANG] [--name TEXT] [--updates N]
                                  [--out DIR]

Trains a small autoregressive teacher on a folder of parallel text, lets it translate the training set, trains
vq_nat_em on these translations, and writes report.json, report.md and plots, and in diagnosis/ where BLEU is
lost on valid. For 100,000 sentence pairs or more; run it again to go on after a kill.

  --data DIR     folder with train.LANG, valid.LANG (or val, dev) and test.LANG of both languages, one sentence
                 a line
  --source LANG  language that is translated (default: en)
  --target LANG  language of the translations (default: de)
  --name TEXT    title of the report (default: the name of the folder)
  --updates N    updates of the teacher and of the student (default: 3000)
  --out DIR      where everything goes (default: runs/own_corpus)'

recipe_option() {
    case $1 in
        --source) SOURCE=$2 ;;
        --target) TARGET=$2 ;;
        --name) NAME=$2 ;;
        --updates) UPDATES=$2 ;;
        *) return 1 ;;
    esac
}

main() {
    DATA="" OUT=runs/own_corpus SOURCE=en TARGET=de NAME="" UPDATES=3000 SEED=1
    parse_options "$@"
    if [ -z "$DATA" ]; then
        echo "$0: --data: name a folder of parallel text (see $0 --help)" >&2
        exit 2
    fi
    if ! [[ $UPDATES =~ ^[0-9]+$ ]] || [ "$UPDATES" -lt 500 ]; then
        echo "$0: --updates $UPDATES: needs a number of at least 500" >&2
        exit 2
    fi
    start_recipe
    small_options
    languages "$SOURCE" "$TARGET"

    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --source "$SOURCE" --target "$TARGET" \
        --merges 8000 --workers 2
    stage teacher scripts/train.py --batch-tokens 4096 "$OUT/data/bin" "${SHARED_OPTIONS[@]}" "${LANGUAGES[@]}" \
        "${TEACHER_OPTIONS[@]}" --total-num-update "$UPDATES" --max-update "$UPDATES" --save-dir "$OUT/teacher"
    distil distil "$OUT/data/bin" "$OUT/distilled"
    stage student scripts/train.py --batch-tokens 4096 "$OUT/distilled" "${SHARED_OPTIONS[@]}" "${LANGUAGES[@]}" \
        --task translation_vq --arch vq_nat_em_small --criterion vq_nat_loss \
        --init-from-teacher "$OUT/teacher/checkpoint_best.pt" --dropout 0.1 --codebook-size 512 --compress-steps 2 \
        --unquantized-updates 100 --code-revival-until $((UPDATES * 3 / 4)) --lr 1.5e-3 --warmup-updates 200 \
        --total-num-update "$UPDATES" --max-update "$UPDATES" --save-dir "$OUT/student"
    stage diagnose scripts/diagnose.py "$OUT/student/checkpoint_best.pt" --subset valid --out "$OUT/diagnosis"

    BIN=$OUT/data/bin REFERENCES=("$OUT/data/reference/test.$TARGET") DETOKENIZER=moses
    DECODE_OPTIONS=(--tokenizer moses)
    TITLE="${NAME:-$(basename "$DATA")}, $SOURCE to $TARGET, test"
    evaluate
}

main "$@"
