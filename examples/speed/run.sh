#!/usr/bin/env bash
# How many times faster is the student at the paper's size, on this machine?
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../paper.sh"

HELP='usage: examples/speed/run.sh [--data DIR] [--length N] [--out DIR]

Times a Transformer base and the base model of vq_nat_em side by side, on the GPU if there is one, and writes
report.json and report.md. Both are untrained: that changes what they say, not how long it takes. Sources and
translations all have N tokens, of a vocabulary of 32,000. Minutes; nothing else should run on the machine.

  --data DIR  binarised data, en to de, whose test set is translated, instead of random words; N is then the length
              of the translations
  --length N  tokens of a sentence (default: 25)
  --out DIR   where everything goes (default: runs/speed)'

recipe_option() {
    case $1 in
        --length) LENGTH=$2 ;;
        *) return 1 ;;
    esac
}

main() {
    DATA="" OUT=runs/speed LENGTH=25 SOURCE=en TARGET=de SEED=1
    parse_options "$@"
    if ! [[ $LENGTH =~ ^[1-9][0-9]*$ ]]; then
        echo "$0: --length $LENGTH: needs a number of at least 1" >&2
        exit 2
    fi
    start_recipe
    if [ -z "$DATA" ]; then
        DATA=$OUT/data
        stage data random_words
    fi
    # The sizes of the paper. The one update is without effect; at its end checkpoint_last.pt is written, and no
    # second copy, which a save interval of 1 would make.
    MERGES=32000 BATCH_TOKENS=1024 DROPOUT=0.1 TEACHER_DROPOUT=0.1 TEACHER_UPDATES=1 STUDENT_UPDATES=1
    SAVE_INTERVAL=1000
    set_options
    TRAINING+=(--disable-validation)
    stage teacher scripts/train.py "$DATA" "${TRAINING[@]}" "${TEACHER[@]}" --save-dir "$OUT/teacher"
    stage student scripts/train.py "$DATA" "${TRAINING[@]}" "${STUDENT[@]}" --unquantized-updates 0 \
        --save-dir "$OUT/student"

    local teacher=$OUT/teacher/checkpoint_last.pt student=$OUT/student/checkpoint_last.pt
    local limits="min_len=$LENGTH;max_len_b=$LENGTH"
    stage benchmark scripts/benchmark.py "$DATA" --baseline teacher_greedy --out "$OUT/latency.json" \
        --system "teacher_beam4=$teacher;beam=4;$limits" --system "teacher_greedy=$teacher;$limits" \
        --system "student_greedy=$student;$limits" --system "student_4_candidates=$student;beam=4;$limits"
    scripts/report.py --out "$OUT" --title "Speed at the paper's size: $LENGTH tokens a sentence, untrained models" \
        --latency "$OUT/latency.json" --stages "$OUT/stages.tsv" --commands-file "$OUT/commands.txt" --seed "$SEED"
}

# Binarised sentences of random words.
random_words() {
    mkdir -p "$OUT/text"
    python - "$OUT/text" "$LENGTH" "$SEED" <<'PYTHON'
import random
import sys

folder, length, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
words = [f"w{number}" for number in range(32000)]
rng = random.Random(seed)
with open(f"{folder}/dict.txt", "w") as file:
    file.writelines(f"{word} 1\n" for word in words)
for language in ("en", "de"):
    with open(f"{folder}/test.{language}", "w") as file:
        file.writelines(" ".join(rng.choices(words, k=length)) + "\n" for _ in range(400))
PYTHON
    run fairseq-preprocess --source-lang "$SOURCE" --target-lang "$TARGET" --trainpref "$OUT/text/test" \
        --validpref "$OUT/text/test" --testpref "$OUT/text/test" --srcdict "$OUT/text/dict.txt" \
        --joined-dictionary --destdir "$DATA"
}

main "$@"
