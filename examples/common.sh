# What the recipes share: options, the Python environment, stages that resume. Sourced, not run.

# Sets DATA, OUT and DOWNLOAD from the command line; usage text in HELP, defaults set before the call.
parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --data) DATA=${2:?--data needs a folder}; shift ;;
            --out) OUT=${2:?--out needs a folder}; shift ;;
            --download) DOWNLOAD=1 ;;
            -h|--help) printf '%s\n' "$HELP"; exit 0 ;;
            *) echo "$0: unknown option '$1' (see $0 --help)" >&2; exit 2 ;;
        esac
        shift
    done
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

# stage NAME COMMAND...: run a command once. A finished stage is skipped, a killed one is run again.
# Seconds go to stages.tsv, the command to commands.txt, what it prints to logs/NAME.log.
stage() {
    local name=$1 start=$SECONDS
    shift
    if [ -e "$OUT/done/$name" ]; then
        echo "== $name: done before"
        return
    fi
    echo "== $name"
    printf '%q ' "$@" | sed "s|$OUT|OUT|g; s|${DATA:-no data}|DATA|g; s| $|\n|" >> "$OUT/commands.txt"
    # fairseq prints its whole configuration on one line: of use in the log, noise on the screen.
    if ! "$@" 2>&1 | tee -a "$OUT/logs/$name.log" | { grep --line-buffered -v -e 'fairseq_cli.* {.*_name' -e 'is deprecated' || true; }; then
        echo "$0: stage $name failed; its log is $OUT/logs/$name.log; the same command goes on from here" >&2
        exit 1
    fi
    printf '%s\t%s\n' "$name" $((SECONDS - start)) >> "$OUT/stages.tsv"
    touch "$OUT/done/$name"
}
