# shellcheck shell=bash
# Sourced by train-gpt3.sh: with BROADCAST=1 the environment is copied onto every host's own disk before the ranks start,
# and their Python is that one. Needs setup.sh, args.sh, launch.sh. Sets
#   LONGSEQ_LOCAL   the copy's folder on each host; empty: there is none

LONGSEQ_BROADCAST_SECONDS=900 # for all of it; 10 GB take half a minute where a link gives 1 GB/s

longseq_on_each_host() { # longseq_on_each_host SECONDS FOLDER COMMAND...: a process on each host; what they say is in FOLDER/said.txt
    # All that longseq_wrap reads and sets is this function's own
    # shellcheck disable=SC2034
    local seconds=$1 LONGSEQ_RUN=$2 LONGSEQ_RANKS=${#LONGSEQ_HOSTS[@]} LONGSEQ_RANKS_PER_HOST=1 OMP_NUM_THREADS=1 \
        LONGSEQ_LAUNCHER LONGSEQ_COMMAND LONGSEQ_SETTINGS LONGSEQ_BIND=()
    local -x PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1
    mkdir -p -- "$LONGSEQ_RUN"
    longseq_wrap "${@:3}"
    longseq_host_file >"$LONGSEQ_RUN/hosts.txt"
    timeout -k 5 "$seconds" "${LONGSEQ_COMMAND[@]}" </dev/null >"$LONGSEQ_RUN/said.txt" 2>&1
}

longseq_broadcast() { # copies the environment where BROADCAST=1 asks for it; what fails is said, and leaves things as they are
    local folder=$LONGSEQ_RUN/log/broadcast log job=${PBS_JOBID:-${SLURM_JOB_ID:-${COBALT_JOBID:-0}}}
    log=$folder/said.txt LONGSEQ_LOCAL=
    ((LONGSEQ_VALUE[BROADCAST])) || return 0
    # Of this run alone: what another has left is never taken for it
    LONGSEQ_LOCAL=${LONGSEQ_SCRATCH:-${TMPDIR:-/tmp}}/longseq-$EUID-${job%%.*}-$$-${LONGSEQ_RESTARTED:-0}
    export LONGSEQ_TOKEN
    LONGSEQ_TOKEN=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    if longseq_on_each_host "$LONGSEQ_BROADCAST_SECONDS" "$folder" \
        "$LONGSEQ_PYTHON" -S -m longseq.host.broadcast "$LONGSEQ_VENV" "$LONGSEQ_LOCAL"; then
        longseq_say "the environment is on the hosts' own disks, in $LONGSEQ_LOCAL: $(tail -n 1 -- "$log")"
        LONGSEQ_PYTHON=$LONGSEQ_LOCAL/bin/python
        unset LONGSEQ_TOKEN
        return 0
    fi
    unset LONGSEQ_TOKEN
    longseq_say "BROADCAST=1: the environment could not be copied to all hosts, so it is read from $LONGSEQ_VENV:\
 $(grep -m 1 '^longseq: ' "$log" || tail -n 1 -- "$log")"
    longseq_remove_local
}

longseq_remove_local() { # removes the copies, as far as the hosts still answer
    [[ -n ${LONGSEQ_LOCAL-} ]] || return 0
    longseq_on_each_host 60 "$LONGSEQ_RUN/log/broadcast-removed" rm -rf -- "$LONGSEQ_LOCAL" "$LONGSEQ_LOCAL.tmp" ||
        longseq_say "note: $LONGSEQ_LOCAL may be left on a host"
    LONGSEQ_LOCAL=
}
