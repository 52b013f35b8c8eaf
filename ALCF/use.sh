#!/usr/bin/env bash
# Asks a trained network on all ranks, as training runs: on this machine, or on all hosts of the allocation it is
# called in. Long records are split over the ranks along the axes of training.
#
# Usage: [VARIABLE=value ...] ./ALCF/use.sh VERB RUN [ARGUMENT ...]
#
#   NGPUS=2 SP_TYPE=ds ./ALCF/use.sh score outputs/RUN genome.fa --output scores.tsv
#   DRY_RUN=1 ./ALCF/use.sh score outputs/RUN genome.fa      print the command and touch nothing
#
# VERB and its arguments are those of ./longseq.sh; ./longseq.sh VERB --help explains them. The variables are those of
# training that say where and how it computes; one that cannot act here is refused. Exit code: 0 done, 2 a mistake in
# what was asked for, anything else a failure.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/models.sh"
source "$LONGSEQ_ROOT/ALCF/args.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"

case ${1-} in
    -h | --help) longseq_help "${BASH_SOURCE[0]}" && exit 0 ;;
    score | generate | embed | evaluate) ;;
    *) longseq_refuse "${1:-no verb}: give one of score, generate, embed, evaluate, and the run: ./ALCF/use.sh --help" ;;
esac

refuse_idle() { # refuses a variable of training that says nothing here
    local name row
    local acting=" NGPUS NGPU_PER_HOST NHOSTS HOSTFILE SP_TYPE MPSIZE SPSIZE RINGSIZE USE_SEQUENCE_PARALLEL DTYPE\
 OUTPUT_DIR DRY_RUN MACHINE PYTHON DS_ACCELERATOR LAUNCH_ARGS SITE_MODULES SITE_NCCL OMP_NUM_THREADS MASTER_ADDR\
 MASTER_PORT LONGSEQ_CACHE WANDB_API_KEY WANDB_MODE "
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        name=${row%%|*}
        [[ -z ${!name-} || $name == USE_FLASH_ATTN* || $acting == *" $name "* ]] || longseq_refuse "$name=${!name} is\
 of training and says nothing to ./ALCF/use.sh: unset it" || return
    done
}

use_args() { # sets LONGSEQ_ARGS: the layout and how it computes, as flags of the verb
    local row name flags word kernel=${LONGSEQ_VALUE[USE_FLASH_ATTN]} only=
    longseq_share_out || return
    longseq_complete
    LONGSEQ_ARGS=(--device "$LONGSEQ_DEVICE")
    for name in MPSIZE SPSIZE RINGSIZE USE_FLASH_ATTN; do
        longseq_row "$name" && row=${REPLY#*|*|*|} flags=${row%%|*}
        [[ $name == USE_FLASH_ATTN ]] || LONGSEQ_ARGS+=("$flags" "${LONGSEQ_VALUE[$name]}")
    done
    for word in $flags; do # "V: FLAG ...", those of the kernel
        [[ $word != *: ]] || only=$word
        [[ $word == *: || $only != "$kernel:" ]] || LONGSEQ_ARGS+=("$word")
    done
    ((! ${LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]:-0})) || LONGSEQ_ARGS+=(--sequence-parallel)
    case ${LONGSEQ_VALUE[DTYPE]} in
        bf16) LONGSEQ_ARGS+=(--bf16) ;;
        fp16) longseq_refuse "DTYPE=fp16 is for training: give fp32 or bf16" ;;
    esac
}

longseq_find_machine
if [[ $LONGSEQ_NODE == login ]]; then
    longseq_refuse "this is a login node of $LONGSEQ_MACHINE: call ./ALCF/use.sh inside a job, where the hosts are"
fi
longseq_setup
longseq_check_names
longseq_read_variables
refuse_idle
LONGSEQ_ARGS=() LONGSEQ_NOTES=()
use_args
LONGSEQ_OUTPUT=${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs}
LONGSEQ_RUN=$LONGSEQ_OUTPUT/$1-$$
words=("$LONGSEQ_PYTHON" -m longseq "$1" "${LONGSEQ_ARGS[@]}" "${@:2}")
if ((LONGSEQ_VALUE[DRY_RUN])); then
    longseq_wrap "${words[@]}"
    longseq_print_command "${LONGSEQ_COMMAND[@]}"
    exit 0
fi
longseq_is_installed base || longseq_refuse "there is no finished environment yet: ./install.sh makes it"
if ! mkdir -p -- "$LONGSEQ_OUTPUT" || ! LONGSEQ_RUN=$(mktemp -d -- "$LONGSEQ_OUTPUT/$1-XXXXXX"); then
    longseq_refuse "cannot write to $LONGSEQ_OUTPUT: set OUTPUT_DIR"
fi
mkdir -- "$LONGSEQ_RUN/log"
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH}
longseq_wrap "${words[@]}"
status=0
longseq_run || status=$?
longseq_finish "$status"
status=$REPLY
# What the ranks printed is kept where one of them failed, and the user's mistake is no failure
[[ $status != 0 && $status != 2 ]] || rm -rf -- "$LONGSEQ_RUN"
exit "$status"
