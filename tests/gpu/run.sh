#!/usr/bin/env bash
# Proves and measures what needs a GPU, on any machine with one; without one, what a CPU can show of
# it.
#
# Usage: ./tests/gpu/run.sh [--within 25m] [--wheels DIR] [--out DIR] [--steps a,b] [--docs]
#
#   --within TIME   for all steps together: 25m, 90s, 1h
#   --wheels DIR    packages for a machine without a network; ./install.sh --wheels DIR makes them
#                   elsewhere
#   --out DIR       results.json and each step's rows and output (outputs/gpu); what is there is not
#                   run again
#   --steps a,b     these only, in the order of their worth (tests/gpu/steps.py lists them)
#   --docs          keeps a GPU's results in docs/measured/, and writes docs/gpu.md anew
#
# Takes install.sh's environment where its torch sees the GPU, else the machine's python3 with its own
# torch. Nothing is installed into that: what it lacks goes from DIR to venvs/gpu-wheels. Exit code: 0
# nothing is wrong.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"

sees_gpu() { # sees_gpu PYTHON: does its torch see a GPU?
    "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null
}

has_torch() { # has_torch PYTHON: has it torch at all?
    "$1" -c 'import torch' 2>/dev/null
}

find_python() { # sets python, whose torch sees the GPU if any does
    local candidate candidates=()
    longseq_find_machine
    longseq_find_python
    longseq_find_environment
    [[ ! -f $LONGSEQ_VENV/installed-base.txt ]] || candidates+=("$LONGSEQ_PYTHON")
    candidates+=("$LONGSEQ_BASE_PYTHON")
    for candidate in "${candidates[@]}"; do
        ! sees_gpu "$candidate" || { python=$candidate && return; }
    done
    for candidate in "${candidates[@]}"; do
        ! has_torch "$candidate" || { python=$candidate && return; }
    done
    longseq_refuse "neither ${candidates[*]} has torch: ./install.sh makes an environment, or set PYTHON"
}

add_wheels() { # add_wheels DIR: what python lacks of the packages in DIR, into a folder of its own
    local target=$LONGSEQ_ROOT/venvs/gpu-wheels missing
    missing=$(
        "$python" - "$1" <<'PYTHON'
import importlib.metadata, pathlib, sys
for wheel in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
    try: importlib.metadata.version(wheel.name.split("-")[0])
    except importlib.metadata.PackageNotFoundError: print(wheel.resolve())
PYTHON
    )
    export PYTHONPATH=$target${PYTHONPATH:+:$PYTHONPATH} PATH=$PATH:$target/bin
    rm -rf -- "$target"
    [[ -n $missing ]] || return 0
    mapfile -t missing <<<"$missing"
    # --isolated: a site's own constraints are about its own packages
    "$python" -m pip --isolated install --quiet --root-user-action=ignore --disable-pip-version-check --no-index \
        --no-deps --no-compile --target "$target" "${missing[@]}" ||
        longseq_refuse "the wheels of $1 do not fit $python: ./install.sh --wheels DIR --python \
$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') makes those that do"
}

wheels='' words=()
while (($#)); do
    case $1 in
        --wheels)
            compgen -G "${2-}/*.whl" >/dev/null || longseq_refuse "--wheels ${2-}: give a folder of wheels"
            wheels=$(readlink -f -- "$2")
            shift
            ;;
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        --docs) words+=("$1") ;;
        --within | --out | --steps)
            [[ -n ${2-} ]] || longseq_refuse "$1 needs a value: ./tests/gpu/run.sh --help"
            words+=("$1" "$2")
            shift
            ;;
        *) longseq_refuse "unknown argument $1: ./tests/gpu/run.sh --help lists them" ;;
    esac
    shift
done

export PYTHONNOUSERSITE=1
find_python
[[ -z $wheels ]] || add_wheels "$wheels"
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH}
"$python" -c 'import deepspeed, rich, numpy' 2>/dev/null ||
    longseq_refuse "$python lacks deepspeed or rich: ./install.sh --wheels DIR makes what it needs where there is a\
 network, and --wheels DIR takes it from there"
export TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$LONGSEQ_ROOT/venvs/gpu-extensions}
exec "$python" -m tests.gpu.all ${words[@]+"${words[@]}"}
