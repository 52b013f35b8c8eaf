# shellcheck shell=bash
# Sourced by running.sh: when this job will end, as its scheduler or WALLTIME says.
#   longseq_know_end    asks once, and exports it for the ranks and for what this script starts:
#     LONGSEQ_END_TIME    in seconds since 1970; empty: not known, whatever a scheduler's variables say
#     LONGSEQ_END_UPTIME  HOST:SECONDS of that host's /proc/uptime, where WALLTIME says it: a clock that nobody sets
#   longseq_time_left   how long that is, in seconds
# and sets, when it is sourced, longseq_began: this host's uptime

IFS=. read -r longseq_began _ </proc/uptime # by which WALLTIME counts from this script's start on, not from the ranks'

longseq_know_end() { # exports when this job ends, before the names that must travel are collected
    local REPLY end now up walltime=''
    longseq_end_time
    end=$REPLY
    ! longseq_uptime_left || ((REPLY <= 0)) || walltime=$LONGSEQ_END_UPTIME
    if longseq_seconds "${LONGSEQ_VALUE[WALLTIME]}"; then
        printf -v now '%(%s)T' -1
        IFS=. read -r up _ </proc/uptime
        if ! ((end && end < now + longseq_began + REPLY - up)); then
            end=$((now + longseq_began + REPLY - up))
            walltime=${LONGSEQ_HOSTNAME:-$(uname -n)}:$((longseq_began + REPLY))
        fi
    fi
    export LONGSEQ_END_TIME=$end LONGSEQ_END_UPTIME=$walltime
    longseq_end_known=1
}

longseq_time_left() { # sets REPLY to the seconds that are left of the job; empty: not known
    local now
    [[ -n ${longseq_end_known-} ]] || longseq_know_end # once: an end that comes meanwhile is one
    ! longseq_uptime_left || return 0
    printf -v now '%(%s)T' -1
    REPLY=${LONGSEQ_END_TIME:+$((LONGSEQ_END_TIME - now))}
}

longseq_uptime_left() { # sets REPLY to the seconds until LONGSEQ_END_UPTIME; fails where that is none of this host
    local up
    [[ ${LONGSEQ_END_UPTIME-} =~ ^(.+):([0-9]{1,12})$ && ${BASH_REMATCH[1]} == "${LONGSEQ_HOSTNAME:-$(uname -n)}" ]] || return 1
    IFS=. read -r up _ </proc/uptime
    REPLY=$((10#${BASH_REMATCH[2]} - up))
}

longseq_end_time() { # sets REPLY to when the scheduler ends this job, in seconds since 1970; empty: not known
    local name now
    # Of the script that has started this one, and has asked
    if longseq_uptime_left && ((REPLY > 0)); then
        printf -v now '%(%s)T' -1
        REPLY=$((now + REPLY))
        return 0
    fi
    longseq_is_to_come "LONGSEQ_END_TIME=${LONGSEQ_END_TIME-}, this job's end," "${LONGSEQ_END_TIME-}" && return 0
    # Slurm's variable is of the job's start; an extension is known to who asks
    longseq_ask_end
    [[ -n $REPLY ]] && { longseq_is_to_come "this job's end as the scheduler gives it" "$REPLY" || :; } && return 0
    for name in SLURM_JOB_END_TIME COBALT_ENDTIME; do
        longseq_is_to_come "$name=${!name-}, this job's end," "${!name-}" && return 0
    done
    return 0
}

longseq_is_to_come() { # longseq_is_to_come WHAT END: sets REPLY to that time; fails where it is none, or past, which it says
    local now
    REPLY=
    [[ $2 =~ ^[0-9]{1,15}$ ]] || return 1
    printf -v now '%(%s)T' -1
    # With one in the past the run would save after an iteration and stop, and so in every job of a chain
    if ((10#$2 <= now)); then
        longseq_say "note: $1 is past, so it is not used (WALLTIME can say it)"
        return 1
    fi
    REPLY=$((10#$2))
}

longseq_ask_end() { # sets REPLY to the end that Slurm or PBS gives when asked; empty: it does not say
    local text line begin='' wall='' time='[0-9]:[0-9]'
    REPLY=
    # Without a time in it `date` would take a text for the last midnight
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        # As a number: where clocks are set back there is an hour that comes twice. A text where Slurm has no such form
        text=$(SLURM_TIME_FORMAT=%s timeout 10 squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) || return 0
        if [[ $text =~ ^[0-9]{9,12}$ ]]; then
            REPLY=$text
        elif [[ $text =~ $time ]]; then
            REPLY=$(date -d "$text" +%s 2>/dev/null) || REPLY=
        fi
    elif [[ -n ${PBS_JOBID-} ]]; then
        text=$(timeout 10 qstat -f "$PBS_JOBID" 2>/dev/null) || return 0
        while IFS= read -r line; do # start_time: Torque's
            [[ ! $line =~ ^[[:space:]]*(stime|start_time)\ =\ (.+)$ ]] || begin=${BASH_REMATCH[2]}
            [[ ! $line =~ Resource_List\.walltime\ =\ ([0-9:]+) ]] || wall=${BASH_REMATCH[1]}
        done <<<"$text"
        [[ $begin =~ $time ]] && begin=$(date -d "$begin" +%s 2>/dev/null) && longseq_seconds "$wall" &&
            REPLY=$((begin + REPLY)) || REPLY=
    fi
}
