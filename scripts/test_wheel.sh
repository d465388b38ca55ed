#!/usr/bin/env bash
# Builds the wheel and the sdist, installs the wheel into an environment where nothing of ours was before, and tries
# there what has to work without fairseq: the command, the quantiser, and clear words about what is missing. Then what
# has to work with the extra 'translation' and fairseq alone: preparing, training, translating.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo "wheel: building"
"$python" -m build --outdir "$folder/dist" . > "$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
echo "wheel: installing into a clean environment"
"$python" -m venv "$folder/clean"
install=("$folder/clean/bin/pip" install --disable-pip-version-check --quiet --constraint scripts/constraints.txt)
wheel=("$folder"/dist/*.whl)
"${install[@]}" "${wheel[0]}"
"$python" scripts/check_wheel.py quantiser "$folder/dist" "$folder/clean/bin"
"${install[@]}" "${wheel[0]}[translation]"
"${install[@]}" --no-deps ve-fairseq==0.12.3
"$python" scripts/check_wheel.py translation "$folder/clean/bin"
