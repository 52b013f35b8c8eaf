#!/usr/bin/env bash
# Makes the environment that training and tests run in, under venvs/MACHINE/PYTHON/.
#
# Usage: ./install.sh [--test] [--megatron-deepspeed] [--recreate] [--dry-run] [--offline WHEELDIR]
#                     [--wheels DIR [--python 3.12]] [--help]
#
#   --test              also what ./tests/run.sh needs: pytest, linters, reference models
#   --megatron-deepspeed
#                       also the second trainer's checkout, at the commit that is known
#                       (docs/upstream.md)
#   --recreate          make it anew, even when it is finished
#   --dry-run           say what would be done, and do nothing
#   --offline WHEELDIR  take every package from this folder. To fill it where there is a network:
#                       python3 -m pip download -d WHEELDIR -c constraints.txt wheel '.[mpi,test]'
#   --wheels DIR        then fills this folder with what training needs on a machine that has a
#                       Python with torch, and no network: ./tests/gpu/run.sh --wheels DIR takes it
#                       there. --python: that machine's
#
# A finished environment is left as it is, in a second, also where other versions (constraints.txt)
# are wanted now: those get one of their own beside it. One that was cut off or moved is made anew.
# pip's own settings (PIP_*, pip.conf) are obeyed. MACHINE and PYTHON choose another machine profile
# and Python.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/install/steps.sh"
source "$LONGSEQ_ROOT/ALCF/install/system.sh"
source "$LONGSEQ_ROOT/ALCF/install/packages.sh"
source "$LONGSEQ_ROOT/ALCF/install/extras.sh"
source "$LONGSEQ_ROOT/ALCF/install/wheels.sh"

with_test=0 with_upstream=0 recreate=0 dry_run=0 wheels='' wheels_out='' wheels_python=''
steps=0 steps_all=9 step=''

# ---------------------------------------------------------------- what is to be done

plan() { # what would be done, for --dry-run
    local lines state='is finished; nothing to do'
    if ((recreate)) || ! longseq_is_installed base; then
        state='would be made'
        [[ ! -e $LONGSEQ_VENV ]] || state+=' anew, in place of what is there'
    elif ((with_test)) && ! longseq_is_installed test; then
        state='is finished; test tools would be added'
    fi
    ((! with_upstream)) || state+='; Megatron-DeepSpeed would be got unless it is there'
    lines=(
        "machine      $LONGSEQ_MACHINE, $LONGSEQ_DEVICES $LONGSEQ_DEVICE device(s) or cores"
        "Python       $LONGSEQ_PYTHON_VERSION at $LONGSEQ_BASE_PYTHON"
        "environment  $LONGSEQ_VENV"
        "             $state"
    )
    [[ -z $wheels_out ]] || lines+=("wheels       $wheels_out, for Python $wheels_python")
    printf '%s\n' "${lines[@]}"
}

lock_environment() { # one installation at a time; the kernel drops the lock when its owner dies
    local venv=
    while [[ $LONGSEQ_VENV != "$venv" ]]; do # the one that was waited for may have taken the name for other versions
        venv=$LONGSEQ_VENV
        exec 9>>"$venv.lock"
        command -v flock >/dev/null || return 0
        if ! flock -n 9; then
            longseq_say "another installation is at work on $venv: waiting for it"
            flock 9 || longseq_say "note: this file system has no locks; start one installation at a time"
            longseq_find_environment
        fi
    done
    log=$LONGSEQ_VENV/install.log
}

tell_others() { # environments beside it, which nothing here removes
    local file kept=''
    for file in "${LONGSEQ_VENV%/*}"/*/installed-base.txt; do
        [[ ! -f $file || ${file%/*} == "$LONGSEQ_VENV" ]] || kept+=" ${file%/*}"
    done
    [[ -z $kept ]] || longseq_say "note: kept for runs that stand on them:$kept; what none needs may be removed"
}

install_all() {
    rm -rf -- "$LONGSEQ_VENV"
    mkdir -p -- "$LONGSEQ_VENV"
    printf 'longseq: making the environment %s (log: %s)\n' "$LONGSEQ_VENV" "$log"
    step 'virtual environment' make_venv
    step "torch for ${LONGSEQ_DEVICE/cuda/GPUs}" install_torch
    step 'packages' install_packages
    step 'MPI' install_mpi
    step 'DeepSpeed and its C++ ops' build_deepspeed
    step 'flash-attn and apex' build_gpu_extras
    step 'check: imports, two ranks' check_environment
    longseq_stamp >"$LONGSEQ_VENV/installed-base.txt" # last: without it the environment is unfinished
}

while (($#)); do
    case $1 in
        --test) with_test=1 ;;
        --megatron-deepspeed) with_upstream=1 ;;
        --recreate) recreate=1 ;;
        --dry-run) dry_run=1 ;;
        --offline)
            [[ -d ${2-} ]] || longseq_refuse "--offline ${2-}: give a folder of wheels"
            wheels=$(readlink -f -- "$2")
            shift
            ;;
        --wheels)
            [[ -n ${2-} && ! -f $2 && -z $(ls -A -- "$2" 2>/dev/null) ]] ||
                longseq_refuse "--wheels ${2-}: give a folder that is new or empty"
            wheels_out=$(readlink -m -- "$2")
            shift
            ;;
        --python)
            [[ ${2-} =~ ^3\.1[0-3]$ ]] || longseq_refuse "--python ${2-}: give 3.10, 3.11, 3.12 or 3.13"
            wheels_python=$2
            shift
            ;;
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        *) longseq_refuse "unknown argument $1: ./install.sh --help lists them" ;;
    esac
    shift
done

[[ -z $wheels_python || -n $wheels_out ]] ||
    longseq_refuse "--python $wheels_python is that of the wheels' machine: give --wheels DIR too, or PYTHON in its place"

# What users have set for their own Python must not leak into this one, nor seem to be in it
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1
longseq_find_machine
longseq_prepare_machine
longseq_count_devices
longseq_find_python
longseq_find_environment
wheels_python=${wheels_python:-${LONGSEQ_PYTHON_VERSION%.*}}

((! dry_run)) || longseq_answer plan
check_machine
for signal in INT TERM HUP; do
    # shellcheck disable=SC2064 # the name of this signal is meant
    trap "end_step $signal" "$signal"
done
lock_environment
steps_all=$((7 + 2 * with_test + with_upstream + (${#wheels_out} > 0)))
if ((recreate)) || ! longseq_is_installed base; then
    install_all
    tell_others
else
    steps_all=$((steps_all - 7))
    ! longseq_is_installed test || steps_all=$((steps_all - 2 * with_test))
fi
if ((with_test)) && ! longseq_is_installed test; then
    step 'test tools' install_test_tools
    step 'operator for offload to files' build_file_operator
    longseq_stamp >"$LONGSEQ_VENV/installed-test.txt"
fi
((! with_upstream)) || step 'Megatron-DeepSpeed' get_upstream
[[ -z $wheels_out ]] || step "wheels for Python $wheels_python" fill_wheels
printf 'longseq: the environment is ready: %s (%d s)\n' "$LONGSEQ_VENV" "$SECONDS"
