# shellcheck shell=bash
# Sourced by train-gpt3.sh: where a host has failed, the run goes on in the same job on the hosts that are left, from
# its newest checkpoint, as the next job of a chain would. Needs setup.sh, launch.sh, running.sh, preflight.sh. Sets
#   LONGSEQ_FAILED     array: hosts that have failed;  LONGSEQ_FAILED_WHY   in what way
# and, for the script that goes on, exports
#   LONGSEQ_LEFT_OUT   hosts that are not used any more, with blanks between
#   LONGSEQ_RESTARTED  how often the run has gone on;  LONGSEQ_RESTART      the last time in words, for its records

longseq_may_be_a_hosts() { # longseq_may_be_a_hosts CODE: is that an end of which a host may be the cause?
    ((${#LONGSEQ_ALLOCATION[@]} > 1)) || return 1
    [[ $1 != [02] && $1 != "$LONGSEQ_EXIT_NO_ROOM" && $1 != 75 && $1 != 130 && -z ${LONGSEQ_TOLD-} && ! -e $LONGSEQ_RUN/STOP ]]
}

longseq_may_go_on() { # longseq_may_go_on [EXTRA...]: does it go on, now that a host has failed?
    local REPLY
    ((LONGSEQ_VALUE[RESTARTS] > ${LONGSEQ_RESTARTED:-0})) || return 1
    # Arguments of one's own come last and win, and these would undo what is meant here
    if longseq_moved "$@"; then
        longseq_say "it does not go on by itself without that host, as $REPLY is given behind --"
        return 1
    fi
    longseq_time_left
    ((${REPLY:-LONGSEQ_WORTH_IT} >= LONGSEQ_WORTH_IT)) ||
        { longseq_say "too little of the job is left to go on without a host" && return 1; }
}

longseq_time_to_look() { # sets REPLY to the most seconds that hosts may be asked for, empty: any; fails where those are too few
    longseq_time_left
    [[ -n $REPLY ]] || return 0
    REPLY=$((REPLY - 45)) # who is silent is asked again, alone; then the next jobs must be told
    # In less, ranks that wait for a dead one do not come to say so, and would be blamed
    ((REPLY >= 60)) ||
        { longseq_say "too little of the job is left to ask which host has failed" && return 1; }
}

longseq_find_failed() { # longseq_find_failed CODE: sets LONGSEQ_FAILED and its reason after a run, asking the hosts if need be
    # shellcheck disable=SC2034 # longseq_probe reads LONGSEQ_OUTPUT
    local note host follows='' good=() status=0 folder=$LONGSEQ_RUN/log/doctor-after LONGSEQ_OUTPUT=$LONGSEQ_RUN
    local LONGSEQ_AT_MOST REPLY
    LONGSEQ_FAILED=() LONGSEQ_FAILED_WHY=
    note=$(longseq_first_failure "$LONGSEQ_RUN/log")
    if [[ $1 == 69 && -n $note ]]; then
        LONGSEQ_FAILED_WHY=$(sed -n 5p "$note")
        ! longseq_host_of "$note" || LONGSEQ_FAILED=("$REPLY")
        return 0
    fi
    [[ -z $note ]] || follows=$(sed -n 4p "$note")
    # An error of the program's own needs no look at the hosts; a lost connection, a signal or silence does
    [[ -z $note || $follows == 1 || $1 -gt 128 ]] || return 0
    [[ ${LONGSEQ_VALUE[PREFLIGHT]} != 0 ]] || return 0
    longseq_time_to_look || return 0
    # shellcheck disable=SC2034 # longseq_examine reads it
    LONGSEQ_AT_MOST=$REPLY
    longseq_say "are all hosts still there?"
    mkdir -p -- "$folder"
    longseq_until_told longseq_examine "$folder" "${LONGSEQ_HOSTS[@]}" -- >"$folder/verdict.txt" || status=$?
    longseq_has_judged "$folder" "$status" || return 0
    grep '  BAD  ' "$folder/verdict.txt" >&2 || :
    mapfile -t good <"$folder/good.txt"
    for host in "${LONGSEQ_HOSTS[@]}"; do
        [[ " ${good[*]-} " != *" $host "* ]] || continue
        LONGSEQ_FAILED+=("$host")
        longseq_blame "$host" 'after a run that failed'
    done
    LONGSEQ_FAILED_WHY=$(sed -n 's/^.*  BAD  //p' "$folder/verdict.txt" | head -n 1)
}

longseq_settings_to_go_on() { # longseq_settings_to_go_on HOSTS LEFT: exports those of a run on HOSTS of LEFT hosts
    local whole
    unset NGPUS GAS GRADIENT_ACCUMULATION_STEPS GLOBAL_BATCH_SIZE PLAN
    export NHOSTS=$1 SPARE_NODES=$(($2 - $1)) NGPU_PER_HOST=$LONGSEQ_RANKS_PER_HOST
    export GLOBAL_BATCH=${LONGSEQ_VALUE[GLOBAL_BATCH]}
    for whole in "$LONGSEQ_RUN"/checkpoints/step-*[0-9]/manifest.json; do
        [[ -e $whole ]] || continue
        export LOAD=$LONGSEQ_RUN
        unset RESUME
    done
    # The default on fewer GPUs would be another network
    [[ -n ${LOAD-}${LONGSEQ_VALUE[LOAD]} ]] || export MODEL_SIZE_KEY=${LONGSEQ_VALUE[MODEL_SIZE_KEY]} LONGSEQ_MODEL_FROM
}

longseq_go_on() { # longseq_go_on [EXTRA...]: becomes the run without LONGSEQ_FAILED; returns where no layout fits the hosts left
    local host left=() count least said='' why
    ((${#LONGSEQ_FAILED[@]})) || return 0
    for host in "${LONGSEQ_ALLOCATION[@]}"; do
        [[ " ${LONGSEQ_FAILED[*]} " == *" $host "* ]] || left+=("$host")
    done
    ((${#left[@]})) || return 0
    count=$((${#LONGSEQ_HOSTS[@]} < ${#left[@]} ? ${#LONGSEQ_HOSTS[@]} : ${#left[@]}))
    least=$(((${#LONGSEQ_HOSTS[@]} + 1) / 2)) # fewer would waste more than the next job's waiting
    export LONGSEQ_LEFT_OUT="${LONGSEQ_LEFT_OUT:+$LONGSEQ_LEFT_OUT }${LONGSEQ_FAILED[*]}"
    export LONGSEQ_RESTARTED=$((${LONGSEQ_RESTARTED:-0} + 1))
    for (( ; count >= least; count--)); do
        longseq_settings_to_go_on "$count" "${#left[@]}"
        why=$(DRY_RUN=1 "$LONGSEQ_ROOT/ALCF/train-gpt3.sh" -- "$@" 2>&1 >/dev/null) && break
        said=${said:-${why##*$'\n'}}
    done
    if ((count < least)); then
        longseq_say "it cannot go on with the ${#left[@]} host(s) that are left: ${said#longseq: }"
        return 0
    fi
    export LONGSEQ_RESTART="restart $LONGSEQ_RESTARTED of ${LONGSEQ_VALUE[RESTARTS]} on $count host(s), without\
 ${LONGSEQ_FAILED[*]}: ${LONGSEQ_FAILED_WHY:-no longer fit}"
    longseq_say "$LONGSEQ_RESTART; it goes on from ${LOAD:-the beginning}"
    exec "$LONGSEQ_ROOT/ALCF/train-gpt3.sh" -- "$@"
}
