#!/usr/bin/env bash
# Looks at every host that a run would use, without a run: `./longseq.sh doctor`, whose --help says what at.
#
# Usage: [VARIABLE=value ...] ./longseq.sh doctor [--json]
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/models.sh"
source "$LONGSEQ_ROOT/ALCF/args.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/running.sh"
source "$LONGSEQ_ROOT/ALCF/preflight.sh"

help() { # the same as of ./longseq.sh doctor, whatever Python there is
    longseq_find_machine
    longseq_load_modules
    longseq_find_python
    PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1 exec "$LONGSEQ_BASE_PYTHON" -m longseq doctor --help
}

json=()
case ${1-} in
    '') ;;
    --json) json=(--json) ;;
    -h | --help) help ;;
    *) longseq_refuse "unknown argument $1: ./longseq.sh doctor --help" ;;
esac

longseq_find_machine
if [[ $LONGSEQ_NODE == login ]]; then
    longseq_refuse "this is a login node of $LONGSEQ_MACHINE: call ./longseq.sh doctor inside a job, where the hosts are"
fi
longseq_setup
longseq_read_variables
longseq_check_names
longseq_is_installed base || longseq_refuse "there is no finished environment yet: ./install.sh makes it"
LONGSEQ_OUTPUT=${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs}
made=
[[ -d $LONGSEQ_OUTPUT ]] || made=$LONGSEQ_OUTPUT # for the look alone
mkdir -p -- "$LONGSEQ_OUTPUT" || longseq_refuse "cannot write to $LONGSEQ_OUTPUT: set OUTPUT_DIR"
folder=$(mktemp -d -- "$LONGSEQ_OUTPUT/doctor-XXXXXX") ||
    longseq_refuse "cannot write to $LONGSEQ_OUTPUT: set OUTPUT_DIR"
trap 'rm -rf -- "$folder"; [[ -z $made ]] || rmdir -- "$made" 2>/dev/null || :' EXIT
LONGSEQ_RUN=$folder
longseq_wrap true # for what the launcher would be given; what is refused is no fault of a host
longseq_check_temporary
status=0
longseq_until_told longseq_examine "$folder" "${LONGSEQ_HOSTS[@]}" ${LONGSEQ_SPARES[@]+"${LONGSEQ_SPARES[@]}"} -- \
    ${json[@]+"${json[@]}"} || status=$?
((status != 75)) || longseq_say "stopped before it was done"
exit "$status"
