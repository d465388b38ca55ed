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
    require_data "parallel text"
    if ! [[ $UPDATES =~ ^[0-9]+$ ]] || [ "$UPDATES" -lt 500 ]; then
        echo "$0: --updates $UPDATES: needs a number of at least 500" >&2
        exit 2
    fi
    start_recipe
    small_options

    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --source "$SOURCE" --target "$TARGET" \
        --merges 8000 --workers 2
    train teacher "$OUT/data/bin" "$SOURCE" "$TARGET" "$UPDATES" "${TEACHER_OPTIONS[@]}"
    distil distil "$OUT/data/bin" "$OUT/distilled"
    student "$OUT/distilled" "$UPDATES" $((UPDATES * 3 / 4))

    BIN=$OUT/data/bin REFERENCES=("$OUT/data/reference/test.$TARGET") DETOKENIZER=moses
    DECODE_OPTIONS=(--tokenizer moses)
    TITLE="${NAME:-$(basename "$DATA")}, $SOURCE to $TARGET, test"
    evaluate
}

main "$@"
