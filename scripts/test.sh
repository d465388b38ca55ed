#!/usr/bin/env bash
# Set-up, lint, format, types and the default tests. Further arguments go to pytest, for example -m slow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
export PATH=$PWD/.venv/bin:$PATH PYTHONWARNINGS=ignore

echo "test: lint, format, types"
ruff check .
ruff format --check .
mypy
scripts/readme.py --check

echo "test: default tests"
# Two workers of one thread each: the tests run small things, in processes of their own as well. Each worker
# begins with half of them, in order, so that few fixtures are made twice.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist worksteal --durations=15 "$@"
