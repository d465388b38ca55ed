#!/usr/bin/env bash
# Set up vqnat_plugin: a virtual environment with the one tested set of packages.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/setup.sh [--no-venv] [--python PYTHON] [--locked]

Makes .venv in the project folder and installs torch, fairseq and the plugin (editable) into it,
with the versions of scripts/constraints.txt. Running it again changes nothing.

  --no-venv        install into the active Python environment instead of .venv
  --python PYTHON  the interpreter to use (default: python3, or the first of python3.13, 3.12, 3.11, 3.10
                   that runs, when python3 is another version)
  --locked         install the very files of scripts/requirements-ci.txt, all of them checked by their SHA-256;
                   for Python and machine as they stand there
HELP
}

venv=1
locked=0
python=""
while [ $# -gt 0 ]; do
    case $1 in
        --no-venv) venv=0 ;;
        --locked) locked=1 ;;
        --python) python=${2:?--python needs an interpreter}; shift ;;
        -h|--help) usage; exit 0 ;;
        *) echo "setup: unknown option '$1' (see scripts/setup.sh --help)" >&2; exit 2 ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ "$venv" = 1 ] && [ -x .venv/bin/python ]; then
    if [ -n "$python" ] && [ "$("$python" -V 2>&1)" != "$(.venv/bin/python -V 2>&1)" ]; then
        echo "setup: --python $python: .venv has $(.venv/bin/python -V); remove .venv first, or leave --python out" >&2
        exit 1
    fi
    python=.venv/bin/python
elif [ -z "$python" ]; then
    for python in python3 python3.13 python3.12 python3.11 python3.10; do
        supported "$python" && break
    done
    supported "$python" || python=python3
fi
if ! supported "$python"; then
    version=$("$python" -V 2>&1) || version="'$python', which does not run"
    echo "setup: needs Python 3.10 to 3.13 (fairseq does not run on later ones), but found $version; name one with --python" >&2
    exit 1
fi

if [ "$venv" = 1 ]; then
    if [ ! -x .venv/bin/python ]; then
        echo "setup: making .venv with $("$python" -V)"
        "$python" -m venv .venv
    fi
    python=$PWD/.venv/bin/python
fi

machine=$("$python" -c 'import platform as p; print("Python", ".".join(p.python_version_tuple()[:2]), "on", p.system(), p.machine())')
if [ "$locked" = 1 ] && ! grep -q "for $machine.$" scripts/requirements-ci.txt; then
    echo "setup: --locked: $(head -n 1 scripts/requirements-ci.txt), but here is $machine; leave it out" >&2
    exit 1
fi

# Everything that decides what gets installed: when none of it changed, there is nothing to do.
stamp_file=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vqnat_setup.stamp
stamp=$(cat scripts/setup.sh scripts/constraints.txt scripts/requirements-ci.txt setup.cfg pyproject.toml | cksum; pwd)
found=$(cat "$stamp_file" 2>/dev/null || true)
# What was installed by hashes will do for those who ask for none.
if [ "$found" = "$stamp, locked" ] || { [ "$found" = "$stamp" ] && [ "$locked" = 0 ]; }; then
    echo "setup: up to date ($("$python" -V), $(dirname "$("$python" -c 'import sys; print(sys.executable)')"))"
    exit 0
fi

pip() { "$python" -m pip --disable-pip-version-check "$@"; }
constraints=(--constraint scripts/constraints.txt)

if [ "$locked" = 1 ]; then
    echo "setup: installing the files of scripts/requirements-ci.txt (several GB the first time)"
    locked_file=(--quiet --require-hashes --no-deps --no-build-isolation --requirement)
    # First what builds those that come without a wheel.
    grep -E '^(setuptools|wheel)==' scripts/requirements-ci.txt > "$stamp_file.first"
    pip install "${locked_file[@]}" "$stamp_file.first"
    rm "$stamp_file.first"
    pip install "${locked_file[@]}" scripts/requirements-ci.txt
    pip install --quiet --no-deps --no-build-isolation --editable .
    printf '%s' "$stamp, locked" > "$stamp_file"
    echo "setup: done"
    exit 0
fi

echo "setup: installing torch and torchvision (several GB the first time)"
pip install --quiet "${constraints[@]}" torch torchvision numpy

echo "setup: installing the plugin and its other packages"
pip install --quiet "${constraints[@]}" --editable '.[dev]'

# Both packages are fairseq's last main branch with the fix for newer Pythons. They ask for torchaudio,
# which translation never imports, hence --no-deps; their true needs stand in setup.cfg.
if ! "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("fairseq") is None)'; then
    echo "setup: installing fairseq"
    if ! pip install --quiet --no-deps --only-binary :all: ve-fairseq==0.12.3 2> "$stamp_file.log"; then
        echo "setup: there is no wheel ($(tail -n 1 "$stamp_file.log"))"
        echo "setup: building fairseq (a few minutes, needs a C++ compiler)"
        pip install --quiet "${constraints[@]}" setuptools wheel cython
        pip install --quiet --no-deps --no-build-isolation fairseq-fixed==0.12.3.1
    fi
fi

# fairseq says a lot when it is imported; it is shown where that fails.
if ! "$python" -W ignore -c 'import fairseq, torch, vqnat_plugin as v; print(f"setup: torch {torch.__version__}, plugin {v.__version__}")' 2> "$stamp_file.log"; then
    cat "$stamp_file.log" >&2
    exit 1
fi
rm -f "$stamp_file.log"
printf '%s' "$stamp" > "$stamp_file"
[ "$venv" = 0 ] || echo "setup: done; activate with: source .venv/bin/activate"
