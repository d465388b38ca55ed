# What the recipes share: options, the project's Python, stages. Sourced by each, with its arguments.
# The options of a recipe are those in its help, the comment at its top; --source-lang sets SOURCE_LANG.
set -euo pipefail

recipe_help() { sed -n '2,/^$/ { /^#/ s/^# \{0,1\}//p; }' "$0"; }

# fail MESSAGE: stop because of a mistake on the command line.
fail() {
    printf '%s: %s (see %s --help)\n' "$0" "$1" "$0" >&2
    exit 2
}

# takes OPTION PATTERN: whether the help has a line with the option and such a thing behind it.
takes() { [[ $1 =~ ^--[a-z-]+$ ]] && recipe_help | grep -E "^  $1 $2" > /dev/null; }

set_option() {
    local name=${1#--}
    name=${name//-/_}
    [ -n "$2" ] || fail "$1: needs a value"
    printf -v "${name^^}" %s "$2"
}

read_options() {
    while [ $# -gt 0 ]; do
        if [ "$1" = --help ] || [ "$1" = -h ]; then recipe_help; exit; fi
        if takes "$1" " "; then set_option "$1" 1
        elif takes "$1" "[A-Z]"; then set_option "$1" "${2:-}"; shift
        else fail "unknown option '$1'"; fi
        shift
    done
}

# absolute VARIABLE: make a path absolute. The dot keeps line feeds at the end of a name.
absolute() {
    local path
    path=$(realpath -m -- "${!1}" && echo .)
    printf -v "$1" %s "${path%$'\n.'}"
}

# need_data WHAT: stop where no data is named; --dry-run shows DATA in its place.
need_data() {
    DATA=${DATA:-${DRY_RUN:+DATA}}
    [ -n "$DATA" ] || fail "$1"
}

# at_least NUMBER OPTION VALUE
at_least() {
    [[ $3 =~ ^(0|[1-9][0-9]{0,8})$ ]] && [ "$3" -ge "$1" ] || fail "$2 $3: needs a number of at least $1"
}

# given OPTION COMMAND...: a command that belongs to an option, named by its variable.
given() { [ -z "${!1}" ] || "${@:2}"; }

# stage NAME COMMAND...: run a command once, see vqnat stage --help; with --dry-run print it.
stage() {
    command -v vqnat > /dev/null || { echo "$0: run scripts/setup.sh first" >&2; exit 1; }
    vqnat stage "$1" --out "$OUT" ${DATA:+--data "$DATA"} ${DRY_RUN:+--dry-run} -- "${@:2}"
}

# stage_cifar10: torchvision fetches CIFAR-10 into DATA.
stage_cifar10() {
    stage download \
        python -c 'import sys, torchvision; torchvision.datasets.CIFAR10(sys.argv[1], download=True)' "$DATA"
}

# stages_back_translate ROUNDS: more sources for the teacher to translate, ROUNDS times the training set: samples of
# the reverse teacher, so that no other text is needed. FORWARD and BACKWARD are the options of vqnat distill.
# Adds what the student is to learn from to DISTILLED; fairseq takes one of these data sets an epoch, in turn.
stages_back_translate() {
    local round
    for ((round = 1; round <= $1; round++)); do
        stage "back_translate_$round" vqnat distill --data "$OUT/data/bin" --out "$OUT/back_translated_$round" \
            "${BACKWARD[@]}" --seed "$round"
        stage "distil_$round" vqnat distill --data "$OUT/back_translated_$round" --out "$OUT/distilled_$round" \
            "${FORWARD[@]}"
        DISTILLED+=:$OUT/distilled_$round
    done
}

# always COMMAND...: a command that is no stage: it knows itself what is done.
always() { if [ -n "$DRY_RUN" ]; then stage always "$@"; else "$@"; fi; }

DATA="" DOWNLOAD="" CHECK="" DRY_RUN=""
read_options "$@"
[ -z "$DATA" ] || absolute DATA
absolute OUT
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH
export PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
