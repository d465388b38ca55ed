#!/usr/bin/env bash
# How many times faster is the student at the paper's size, on this machine? After short trainings on made-up text.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"

HELP='usage: examples/speed/run.sh [--data DIR] [--source LANG] [--target LANG] [--updates N] [--out DIR]

Trains a Transformer base and vq_nat_em, the base model, only until what they say has about the right length, times
them side by side and writes report.json, report.md and a plot. BLEU is there to show that much, not for comparison.
About five minutes on a GPU, on which nothing else should run; run it again to go on after a kill.

  --data DIR     folder with train, valid and test text (train.en, train.de, ...) instead of a made-up corpus
  --source LANG  language that is translated (default: en)
  --target LANG  language of the translations (default: de)
  --updates N    of the Transformer; vq_nat_em has twice as many (default: 400)
  --out DIR      where everything goes (default: runs/speed)'

recipe_option() {
    case $1 in
        --source) SOURCE=$2 ;;
        --target) TARGET=$2 ;;
        --updates) UPDATES=$2 ;;
        *) return 1 ;;
    esac
}

main() {
    DATA="" OUT=runs/speed SOURCE=en TARGET=de UPDATES=400 SEED=1
    parse_options "$@"
    if ! [[ $UPDATES =~ ^[1-9][0-9]*$ ]]; then
        echo "$0: --updates $UPDATES: needs a number of at least 1" >&2
        exit 2
    fi
    start_recipe
    if [ -z "$DATA" ]; then
        DATA=$OUT/corpus
        stage corpus scripts/make_toy_corpus.py --out "$DATA" --train 15000 --seed "$SEED"
    fi
    # The paper's models and optimiser, on a fraction of its updates.
    MERGES=8000 DROPOUT=0.1 TEACHER_DROPOUT=0.1 BATCH_TOKENS=4096 SAVE_INTERVAL=1000
    TEACHER_UPDATES=$UPDATES STUDENT_UPDATES=$((2 * UPDATES))
    set_options
    TRAINING+=(--warmup-updates 200 --disable-validation)
    STUDENT+=(--unquantized-updates $((UPDATES / 8)))

    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --source "$SOURCE" --target "$TARGET" \
        "${PREPARATION[@]}"
    BIN=$OUT/data/bin
    stage teacher scripts/train.py "$BIN" "${TRAINING[@]}" "${TEACHER[@]}" --save-dir "$OUT/teacher"
    stage student scripts/train.py "$BIN" "${TRAINING[@]}" "${STUDENT[@]}" --save-dir "$OUT/student"
    compare
}

# Score and time both.
compare() {
    local teacher=$OUT/teacher/checkpoint_last.pt student=$OUT/student/checkpoint_last.pt
    local limits="max_len_a=1.2;max_len_b=10"
    shopt -s nullglob
    REFERENCES=("$DATA"/test.ref*)
    shopt -u nullglob
    [ ${#REFERENCES[@]} -gt 0 ] || REFERENCES=("$OUT/data/reference/test.$TARGET")
    DECODE_OPTIONS=(--tokenizer moses --source-lang "$SOURCE" --target-lang "$TARGET" --max-len-a 1.2 --max-len-b 10
        --remove-bpe)
    stage decode_teacher decode teacher_greedy "$teacher" --task translation --beam 1
    stage decode_student decode student_greedy "$student" --task translation_vq --beam 1
    stage benchmark scripts/benchmark.py "$BIN" --baseline teacher_greedy --out "$OUT/latency.json" \
        --system "teacher_beam4=$teacher;beam=4;$limits" --system "teacher_greedy=$teacher;$limits" \
        --system "student_greedy=$student;$limits" --system "student_4_candidates=$student;beam=4;$limits"
    scripts/report.py --out "$OUT" --title "Speed of models of the paper's size, after a short training" \
        --scores "$OUT/scores" --latency "$OUT/latency.json" \
        --train-log "teacher=$OUT/logs/teacher.log" --train-log "student=$OUT/logs/student.log" \
        --stages "$OUT/stages.tsv" --commands-file "$OUT/commands.txt" --seed "$SEED"
}

main "$@"
