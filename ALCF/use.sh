#!/usr/bin/env bash
# Asks a trained network on all ranks, as training runs: on this machine, or on all hosts of the
# allocation it is called in. Long records are split over the ranks along the axes of training.
#
# Usage: [VARIABLE=value ...] ./ALCF/use.sh VERB RUN [ARGUMENT ...]
#
#   NGPUS=2 SP_TYPE=ds ./ALCF/use.sh score outputs/RUN genome.fa --output scores.tsv
#   DRY_RUN=1 ./ALCF/use.sh score outputs/RUN genome.fa      print the command and touch nothing
#
# On a login node ./ALCF/submit.sh --use -- VERB RUN ... submits it as a job.
#
# VERB and its arguments are those of ./longseq.sh; ./longseq.sh VERB --help explains them. The
# variables are those of training that say where and how it computes; one that cannot act here is
# refused. Exit code: 0 done, 2 a mistake in what was asked for, 73 no room on a disk, 75 stopped
# before it was done, anything else a failure.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/models.sh"
source "$LONGSEQ_ROOT/ALCF/args.sh"
source "$LONGSEQ_ROOT/ALCF/verb.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/running.sh"

case ${1-} in
    -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
esac
longseq_check_verb "$@"
longseq_find_machine
if [[ $LONGSEQ_NODE == login ]]; then
    longseq_refuse "this is a login node of $LONGSEQ_MACHINE: call ./ALCF/use.sh inside a job, where the hosts are, or\
 submit one: ./ALCF/submit.sh --use -- $1 ..."
fi
longseq_setup
longseq_verb_args "$1"
LONGSEQ_OUTPUT=${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs}
[[ $LONGSEQ_OUTPUT == /* ]] || LONGSEQ_OUTPUT=$PWD/$LONGSEQ_OUTPUT
LONGSEQ_RUN=$LONGSEQ_OUTPUT/$1-$$
words=("$LONGSEQ_PYTHON" -m longseq "$1" "${LONGSEQ_ARGS[@]}" "${@:2}")
longseq_wrap "${words[@]}" # what it refuses it refuses before there is a folder
((! LONGSEQ_VALUE[DRY_RUN])) || longseq_answer longseq_print_command "${LONGSEQ_COMMAND[@]}"
longseq_is_installed base || longseq_refuse "there is no finished environment yet: ./install.sh makes it"
longseq_check_temporary
# What the ranks would refuse, without the launcher's own words around it; what else is said they say
said=$(longseq_look_over "$@" 2>&1 >/dev/null) || { status=$? && printf '%s\n' "$said" >&2 && exit "$status"; }
if ! { mkdir -p -- "$LONGSEQ_OUTPUT" && LONGSEQ_RUN=$(mktemp -d -- "$LONGSEQ_OUTPUT/$1-XXXXXX"); } 2>/dev/null; then
    longseq_refuse "cannot write to $LONGSEQ_OUTPUT: set OUTPUT_DIR"
fi
mkdir -- "$LONGSEQ_RUN/log"
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} LONGSEQ_FROM=$PWD
longseq_wrap "${words[@]}"
longseq_write_hosts || { status=$? && rm -rf -- "$LONGSEQ_RUN" && exit "$status"; }
# Python looks for modules where it starts, and there shall be ours; names mean what they mean here (LONGSEQ_FROM)
cd -- "$LONGSEQ_ROOT"
status=0
longseq_run || status=$?
trap '' INT TERM HUP USR1 # ranks may still say how it ended
longseq_finish "$status"
status=$REPLY
# What the ranks printed is kept where one of them failed; a mistake, a full disk or being told to stop is no failure
[[ " 0 2 75 $LONGSEQ_EXIT_NO_ROOM " != *" $status "* ]] || rm -rf -- "$LONGSEQ_RUN"
exit "$status"
