# What the recipes share: options, the Python environment, stages that resume. Sourced, not run.

# recipe_option OPTION VALUE: set what an option of the recipe alone means; a recipe may define it anew.
recipe_option() {
    return 1
}

# Sets DATA, OUT and DOWNLOAD from the command line; usage text in HELP, defaults set before the call.
parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --data) DATA=${2:?--data needs a folder}; shift ;;
            --out) OUT=${2:?--out needs a folder}; shift ;;
            --download) DOWNLOAD=1 ;;
            -h|--help) printf '%s\n' "$HELP"; exit 0 ;;
            *)
                if ! recipe_option "$1" "${2:-}"; then
                    echo "$0: unknown option '$1' (see $0 --help)" >&2
                    exit 2
                fi
                if [ -z "${2:-}" ]; then
                    echo "$0: $1: needs a value (see $0 --help)" >&2
                    exit 2
                fi
                shift ;;
        esac
        shift
    done
}

# require_data KIND: stop unless the command line names a folder of that kind of data.
require_data() {
    if [ -z "$DATA" ]; then
        echo "$0: --data: name a folder of $1 (see $0 --help)" >&2
        exit 2
    fi
}

# Goes to the project's folder, finds its Python, makes OUT absolute and ready.
start_recipe() {
    DATA=$([ -z "$DATA" ] || realpath -m "$DATA")
    OUT=$(realpath -m "$OUT")
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    if [ -x .venv/bin/python ]; then
        PATH=$PWD/.venv/bin:$PATH
    elif ! python -c 'import fairseq, vqnat_plugin' 2>/dev/null; then
        echo "$0: run scripts/setup.sh first" >&2
        exit 1
    fi
    export PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
    mkdir -p "$OUT/logs" "$OUT/done"
}

# record COMMAND...: put a command on the report's list, once.
record() {
    local line
    line=$(printf '%q ' "$@" | sed "s|$OUT|OUT|g; s|${DATA:-no data}|DATA|g; s| $||")
    grep -qxF -- "$line" "$OUT/commands.txt" 2>/dev/null || printf '%s\n' "$line" >> "$OUT/commands.txt"
}

# run COMMAND...: record a command and run it; for functions that are stages.
run() {
    record "$@"
    "$@"
}

# stage NAME COMMAND...: run a command or function once. A finished stage is skipped, a killed one is run again.
# Seconds go to stages.tsv, the command to commands.txt, what it prints to logs/NAME.log.
stage() {
    local name=$1 start=$SECONDS status spent=0 log=$OUT/logs/$1.log killed=$OUT/logs/$1.spent
    shift
    [ "$(type -t "$1")" = function ] || record "$@"
    if [ -e "$OUT/done/$name" ]; then
        echo "== $name: done before"
        return
    fi
    echo "== $name"
    # The seconds of attempts that were killed: until their last line in the log.
    if [ -e "$killed" ] && [ -e "$log" ]; then
        spent=$(($(cat "$killed") + $(date -r "$log" +%s) - $(date -r "$killed" +%s)))
    fi
    echo "$spent" > "$killed"
    touch "$log"
    # The subshell keeps `set -e` alive in stages that are functions. fairseq prints its whole configuration on one
    # line: of use in the log, noise on the screen.
    set +e
    (set -e; "$@") 2>&1 | tee -a "$log" \
        | grep --line-buffered -v -e 'fairseq_cli.* {.*_name' -e 'is deprecated'
    status=${PIPESTATUS[0]}
    set -e
    if [ "$status" != 0 ]; then
        echo "$0: stage $name failed; its log is $log; the same command goes on from here" >&2
        exit 1
    fi
    printf '%s\t%s\n' "$name" $((spent + SECONDS - start)) >> "$OUT/stages.tsv"
    touch "$OUT/done/$name"
    rm "$killed"
}

# decode NAME CHECKPOINT OPTION...: translate the test set with fairseq-generate and score it.
# Uses BIN (binarised data), REFERENCES (files), DECODE_OPTIONS.
decode() {
    local name=$1 checkpoint=$2
    shift 2
    run fairseq-generate "$BIN" --user-dir vqnat_plugin --path "$checkpoint" --gen-subset test \
        --batch-size 32 --required-batch-size-multiple 1 "${DECODE_OPTIONS[@]}" "$@" \
        --results-path "$OUT/decoded/$name" --no-progress-bar
    run scripts/score.py --system "$name" --generated "$OUT/decoded/$name/generate-test.txt" \
        --references "${REFERENCES[@]}" --out "$OUT/scores/$name.json"
}

# Scores, latencies and the report, for a teacher and a student trained before.
# Uses BIN, REFERENCES, DECODE_OPTIONS, SOURCE and TARGET (languages), DETOKENIZER, TITLE, SEED;
# CANDIDATES (numbers of latent candidates, 4 by default) and LENPEN (by which the student ranks them, 1).
evaluate() {
    local teacher=$OUT/teacher/checkpoint_best.pt student=$OUT/student/checkpoint_best.pt
    local limits="max_len_a=1.2;max_len_b=10"
    DECODE_OPTIONS+=(--source-lang "$SOURCE" --target-lang "$TARGET" --max-len-a 1.2 --max-len-b 10 --remove-bpe)
    stage decode_teacher_beam4 decode teacher_beam4 "$teacher" --task translation --beam 4
    stage decode_teacher_greedy decode teacher_greedy "$teacher" --task translation --beam 1
    stage decode_student_greedy decode student_greedy "$student" --task translation_vq --beam 1
    local count timed=()
    for count in ${CANDIDATES:-4}; do
        stage "decode_student_$count" decode "student_${count}_candidates" "$student" --task translation_vq \
            --beam "$count" --lenpen "${LENPEN:-1}"
        stage "decode_student_${count}_rescored" decode "student_${count}_rescored" "$student" \
            --task translation_vq --beam "$count" --rescore-with "$teacher"
        timed+=(--system "student_${count}_candidates=$student;beam=$count;$limits"
            --system "student_${count}_rescored=$student;beam=$count;$limits;rescore_with=$teacher")
    done
    stage latents scripts/evaluate_latents.py "$BIN" --path "$student" --detokenizer "$DETOKENIZER" \
        --out "$OUT/latents.json"
    stage benchmark scripts/benchmark.py "$BIN" --baseline teacher_greedy --out "$OUT/latency.json" \
        --system "teacher_beam4=$teacher;beam=4;$limits" \
        --system "teacher_greedy=$teacher;$limits" \
        --system "student_greedy=$student;$limits" "${timed[@]}"
    local name logs=()
    for name in teacher student; do
        [ ! -e "$OUT/logs/$name.log" ] || logs+=(--train-log "$name=$OUT/logs/$name.log")
    done
    # Always made anew: it is a matter of seconds, and shows the results again.
    scripts/report.py --out "$OUT" --title "$TITLE" --scores "$OUT/scores" --latency "$OUT/latency.json" \
        "${logs[@]}" \
        --latents "$OUT/latents.json" --stages "$OUT/stages.tsv" --commands-file "$OUT/commands.txt" --seed "$SEED"
}
