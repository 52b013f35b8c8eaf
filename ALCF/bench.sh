#!/usr/bin/env bash
# Measures speed by sequence length, or the longest sequence, of layouts, networks and kernels: each
# case is a run of ALCF/train-gpt3.sh, on this machine or on all hosts of the allocation that it is
# called in.
#
# Usage: [VARIABLE=value ...] ./ALCF/bench.sh [OPTION ...] [-- ARGUMENT ...]
#
#   ./ALCF/bench.sh --lengths 512 2k 8k --layouts tp ulysses ring --within 30m
#   ./ALCF/bench.sh --longest --ranks 1 2 4 --memory 2 --output outputs/longest
#   ./ALCF/bench.sh --help     explains the options, which are those of ./longseq.sh bench
#
# In a job, or with WALLTIME, it ends in time (--within may ask for less). Called again it goes on
# where it was ended. Exit code: 0 all is done and something measured, 1 no case could be measured,
# 2 a mistake in what was asked for, 75 time or somebody ended it before.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/running.sh"

longseq_find_machine
if [[ $LONGSEQ_NODE == login && " $* " != *' --help '* && " $* " != *' -h '* ]]; then
    longseq_refuse "this is a login node of $LONGSEQ_MACHINE: call ./ALCF/bench.sh inside a job, where the GPUs are"
fi
longseq_check_names # once, not in every case
declare -A LONGSEQ_VALUE=([WALLTIME]=${WALLTIME-})
[[ -z ${WALLTIME-} ]] || longseq_parse WALLTIME time "$WALLTIME"
longseq_know_end # the bench and its cases read it
longseq_setup
export LONGSEQ_RANKS # where --ranks does not say
export LONGSEQ_SCRIPT=./ALCF/bench.sh
exec "$LONGSEQ_ROOT/longseq.sh" bench "$@"
