# shellcheck shell=bash
# Sourced by train-gpt3.sh: with BROADCAST=1 the environment is copied onto every host's own disk before the ranks start,
# and their Python is that one. Needs setup.sh, args.sh, launch.sh, running.sh. Sets
#   LONGSEQ_LOCAL    the copy's folder on each host; empty: there is none
#   LONGSEQ_REMOVAL  array: what removes it there
#   LONGSEQ_ON_EACH  array: what was last to be run on each

LONGSEQ_BROADCAST_SECONDS=900 # for all of it; 10 GB take half a minute where a link gives 1 GB/s

longseq_for_each_host() { # longseq_for_each_host FOLDER COMMAND...: sets LONGSEQ_ON_EACH, array, to what runs it once on each host
    # All that longseq_wrap reads and sets is this function's own
    # shellcheck disable=SC2034
    local LONGSEQ_RUN=$1 LONGSEQ_RANKS=${#LONGSEQ_HOSTS[@]} LONGSEQ_RANKS_PER_HOST=1 OMP_NUM_THREADS=1 \
        LONGSEQ_LAUNCHER LONGSEQ_COMMAND LONGSEQ_SETTINGS LONGSEQ_BIND=()
    local -x PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1
    mkdir -p -- "$LONGSEQ_RUN"
    longseq_wrap "${@:2}" || return
    longseq_host_file >"$LONGSEQ_RUN/hosts.txt"
    : >"$LONGSEQ_RUN/said.txt" # while there is room
    LONGSEQ_ON_EACH=(env "PYTHONPATH=$PYTHONPATH" PYTHONSAFEPATH=1 "${LONGSEQ_COMMAND[@]}")
}

longseq_on_each_host() { # longseq_on_each_host SECONDS FOLDER COMMAND...: runs that; what they say is in FOLDER/said.txt
    timeout -k 5 "$1" "${@:3}" </dev/null >"$2/said.txt" 2>&1 &
    wait $!
}

longseq_broadcast() { # copies the environment where BROADCAST=1 asks for it; what fails is said, and leaves things as they are
    # Status 75: told to stop. Whoever calls it calls longseq_remove_local at its end, whatever that is
    local folder=$LONGSEQ_RUN/log/broadcast log status=0 job=${PBS_JOBID:-${SLURM_JOB_ID:-${COBALT_JOBID:-0}}} copy
    log=$folder/said.txt LONGSEQ_LOCAL=
    ((LONGSEQ_VALUE[BROADCAST])) || return 0
    # Of this run alone: what another has left is never taken for it
    copy=${LONGSEQ_SCRATCH:-${TMPDIR:-/tmp}}/longseq-$EUID-${job%%.*}-$$-${LONGSEQ_RESTARTED:-0}
    # Now, as a disk may be full at the end, and as a function's `return` means something else in a trap
    longseq_for_each_host "$LONGSEQ_RUN/log/broadcast-removed" rm -rf -- "$copy" "$copy.tmp"
    LONGSEQ_REMOVAL=("${LONGSEQ_ON_EACH[@]}") LONGSEQ_LOCAL=$copy
    export LONGSEQ_TOKEN
    LONGSEQ_TOKEN=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    longseq_for_each_host "$folder" "$LONGSEQ_PYTHON" -S -m longseq.host.broadcast "$LONGSEQ_VENV" "$copy"
    longseq_until_told longseq_on_each_host "$LONGSEQ_BROADCAST_SECONDS" "$folder" "${LONGSEQ_ON_EACH[@]}" || status=$?
    unset LONGSEQ_TOKEN
    ((status != 75)) || return 75
    if ((status == 0)); then
        longseq_say "the environment is on the hosts' own disks, in $copy: $(tail -n 1 -- "$log")"
        LONGSEQ_PYTHON=$copy/bin/python
        return 0
    fi
    longseq_say "BROADCAST=1: the environment could not be copied to all hosts, so it is read from $LONGSEQ_VENV:\
 $(grep -m 1 '^longseq: ' "$log" || tail -n 1 -- "$log")"
    longseq_remove_local
}

longseq_remove_local() { # removes the copies, as far as the hosts still answer
    local copy=${LONGSEQ_LOCAL-}
    [[ -n $copy ]] || return 0
    LONGSEQ_LOCAL=
    longseq_until_told longseq_on_each_host 60 "$LONGSEQ_RUN/log/broadcast-removed" "${LONGSEQ_REMOVAL[@]}" ||
        longseq_say "note: $copy may be left on a host"
}
