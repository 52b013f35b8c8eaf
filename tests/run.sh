#!/usr/bin/env bash
# Everything that must hold: linters, types, then the tests, of which two run at a time.
#
# Usage: ./tests/run.sh [PYTEST-ARGUMENT ...]
#
#   ./tests/run.sh                       all of it
#   ./tests/run.sh tests/launch -k dry   only these tests, and no linters
#
# Makes its own environment (install.sh --test) where there is none. Exit code 0: all passed.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"

[[ ${1-} != -h && ${1-} != --help ]] || longseq_answer longseq_help "${BASH_SOURCE[0]}"

cd -- "$LONGSEQ_ROOT"
longseq_setup
if ! longseq_is_installed base || ! longseq_is_installed test; then
    ./install.sh --test
fi
export PATH=$LONGSEQ_VENV/bin:$PATH PYTHONNOUSERSITE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset PYTHONDONTWRITEBYTECODE # every rank would compile our modules again
export HF_HUB_OFFLINE=1 WANDB_MODE=${WANDB_MODE:-offline}

scripts=(install.sh longseq.sh tests/run.sh tests/gpu/run.sh .ci/run ALCF/*.sh ALCF/machines/*.sh ALCF/launchers/*.sh
    tests/launch/*.sh tests/launch/stand_ins/*.sh)
failed=() summary=()

run() { # run TITLE COMMAND...: goes on after a failure, and remembers it
    local title=$1 begin=$SECONDS status=0
    shift
    printf '\n== %s\n' "$title"
    "$@" || status=$?
    ((status == 0)) || failed+=("$title")
    summary+=("$(printf '%-24s %-6s %4d s' "$title" "$( ((status == 0)) && echo ok || echo FAILED)" \
        $((SECONDS - begin)))")
}

if (($#)); then
    exec "$LONGSEQ_PYTHON" -m pytest "$@"
fi

run 'ruff' "$LONGSEQ_PYTHON" -m ruff check .
run 'ruff format' "$LONGSEQ_PYTHON" -m ruff format --check .
run 'mypy' "$LONGSEQ_PYTHON" -m mypy
run 'imports' "$LONGSEQ_VENV/bin/lint-imports" --no-cache --no-logo
check_shell() { # two at a time: each script is read with all that it sources
    printf '%s\0' "${scripts[@]}" | xargs -0 -P 2 -n 8 shellcheck -x -a
}
run 'shellcheck' check_shell
run 'shfmt' shfmt -i 4 -ci -d "${scripts[@]}" ALCF/install/*.sh # the linter above follows install.sh into these
scratch=$(mktemp -d) beside=
trap '[[ ! $beside ]] || kill -- "-$beside" 2>/dev/null; rm -rf -- "$scratch"' EXIT
trap 'exit 130' INT
mkdir "$scratch/bash"
export BASH_COVERAGE=$scratch/bash

all_tests() { # those of one process beside those of several ranks: both wait for much of their time
    # Of several hosts, and long: so both take as long
    local status=0 hosts=(tests/launch/test_{again,cluster,doctor}.py)
    set -m # a group of its own, which can be ended whole, and in which INT is not ignored
    "$LONGSEQ_PYTHON" -m pytest --durations=10 tests/unit tests/launch "${hosts[@]/#/--ignore=}" >"$scratch/said" 2>&1 </dev/null &
    beside=$!
    set +m
    "$LONGSEQ_PYTHON" -m pytest --durations=10 tests/parallel tests/faults "${hosts[@]}" || status=1
    wait "$beside" || status=1
    beside=
    cat "$scratch/said"
    return "$status"
}
run 'pytest' all_tests
run 'coverage of bash' "$LONGSEQ_PYTHON" tests/launch/coverage.py "$BASH_COVERAGE" 90

printf '\n== summary, %d s\n' "$SECONDS"
printf '%s\n' "${summary[@]}"
if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[*]}"
    exit 1
fi
echo 'all passed'
