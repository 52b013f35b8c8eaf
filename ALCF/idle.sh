# shellcheck shell=bash
# Sourced: ends a run in which nothing moves, from outside of Python: ranks that never start, or are gone, a launcher
# or a file system that hangs. The ranks watch each other as well (docs/faults.md), and sooner. Needs variables.sh, running.sh.

LONGSEQ_IDLE_GRACE=60 # seconds that a launcher may take to end, once a rank has said why it failed

longseq_signs() { # prints what changes with every sign of life of a run; of rank 0 first, as it is mostly enough
    local log=$LONGSEQ_RUN/log
    stat -c '%n %.9Y %s' -- "$log/beat-0.json" "$log/rank0.out" "$LONGSEQ_RUN/metrics.jsonl" 2>/dev/null || :
    printf '\0'
    [[ ${1-} != all ]] || { find "$log" -maxdepth 1 -type f -printf '%p %T@ %s\n' 2>/dev/null || :; } | LC_ALL=C sort | cksum
    printf '\0'
}

longseq_look() { # sets longseq_quick and longseq_full; status 1 where nothing has changed since, 2 where files do not answer
    local quick='' full=''
    # A look that hangs with its file system is left behind: nothing ends it
    { IFS= read -r -d '' -t 30 quick && IFS= read -r -d '' -t 1 full; } < <(longseq_signs) || return 2
    if [[ $quick != "$longseq_quick" ]]; then
        longseq_quick=$quick
        return 0
    fi
    { IFS= read -r -d '' -t 30 quick && IFS= read -r -d '' -t 60 full; } < <(longseq_signs all) || return 2
    [[ $full != "$longseq_full" ]] || return 1
    longseq_full=$full
}

longseq_idle_words() { # longseq_idle_words PROCESS: prints what is known of a run that does not move
    local log=$LONGSEQ_RUN/log hosts host quiet_hosts='' count state=
    count=$(compgen -G "$log/beat-*.json" | wc -l) || :
    hosts=$(cat -- "$log"/beat-*.json 2>/dev/null | grep -o '"host": *"[^"]*"' | sort -u) || :
    for host in "${LONGSEQ_HOSTS[@]}"; do
        # Ranks do not say an address
        [[ $host == localhost || $host =~ $LONGSEQ_ADDRESS || $hosts == *"\"${host%%.*}\""* || $hosts == *"\"${host%%.*}."* ]] || quiet_hosts+=" $host"
    done
    [[ ! -r /proc/$1/wchan ]] || read -r state <"/proc/$1/wchan" || :
    printf '%s of %s ranks have given a sign of life%s; ' "$count" "$LONGSEQ_RANKS" "${quiet_hosts:+, none on$quiet_hosts}"
    printf 'the launcher %s (process %s%s) has not ended' "$LONGSEQ_STARTER" "$1" "${state:+, in $state}"
}

longseq_is_deserted() { # longseq_is_deserted PROCESS: are all that this launcher has started, on the only host, ended?
    local file stat ended='' left
    longseq_is_alone || return 1
    for file in /proc/[0-9]*/stat; do
        { IFS= read -r stat <"$file"; } 2>/dev/null || continue
        stat=${stat##*) } # its state, its parent
        [[ $stat == ?" $1 "* ]] || continue
        [[ $stat == Z* ]] || return 1
        ended=1
    done
    # Some launchers' ranks are a daemon's
    left=$(grep -lzsxF -e "LONGSEQ_LOG=$LONGSEQ_RUN/log" /proc/[0-9]*/environ | grep -vxF "/proc/$1/environ") || :
    [[ $ended && -z $left ]]
}

longseq_end_group() { # longseq_end_group PROCESS: ends it and those that it has started here
    local try
    trap '' INT # whoever waits for this watch waits until all has ended
    kill "-${LONGSEQ_ENDED_BY:-TERM}" -- "-$1" 2>/dev/null || return 0
    for ((try = 0; try < 50; try++)); do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL -- "-$1" 2>/dev/null || :
}

longseq_watch_idle() { # longseq_watch_idle PROCESS: beside that launcher; ends it where nothing moves, with status 69
    local limit every idle=0 failed=0 longseq_quick='' longseq_full='' found said='' status
    trap 'exit 0' INT # longseq_supervise's; its sleep dies of it without a word
    longseq_seconds "${LONGSEQ_VALUE[IDLE_TIMEOUT]}"
    limit=$REPLY every=$((limit / 20 > 30 ? 30 : limit / 20))
    ((every)) || every=1
    # Counted in looks: a host that slept, or whose clock was set, has not been idle
    while sleep "$every" && kill -0 "$1" 2>/dev/null && kill -0 $$ 2>/dev/null; do
        longseq_look && status=0 || status=$?
        idle=$((status ? idle + every : 0))
        # A launcher may wait for ever for a host that is gone
        ! compgen -G "$LONGSEQ_RUN/log/failed-*.txt" >/dev/null || failed=$((failed + every))
        if ((failed > LONGSEQ_IDLE_GRACE)); then
            longseq_say "a rank failed, and the launcher $LONGSEQ_STARTER does not end: it is ended"
            longseq_end_group "$1"
            return 0
        fi
        if ((idle >= LONGSEQ_IDLE_GRACE)) && longseq_is_deserted "$1"; then
            longseq_say "no rank is left, none said why, and the launcher $LONGSEQ_STARTER does not end: it is ended"
            longseq_end_group "$1"
            return 69
        fi
        ((idle < limit)) && continue
        found="$LONGSEQ_RUN does not answer: a file system that hangs?"
        ((status == 2)) || { IFS= read -r -d '' -t 30 said < <(longseq_idle_words "$1" && printf '\0') && found=$said; }
        longseq_say "nothing has moved for ${LONGSEQ_VALUE[IDLE_TIMEOUT]} (IDLE_TIMEOUT), no heartbeat, no line of a log:\
 $found; the run is ended"
        longseq_end_group "$1"
        return 69
    done
    return 0
}
