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
# Two workers of one thread each: the tests run small things, in processes of their own as well.
OMP_NUM_THREADS=1 python -m pytest -n 2 --durations=15 --cov --cov-report=term:skip-covered "$@"
