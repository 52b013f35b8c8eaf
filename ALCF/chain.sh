# shellcheck shell=bash
# Sourced by setup.sh: what the jobs of a chain leave for those after them, in the job's folder:
#   runs.txt          the runs' folders
#   global-batch.txt  samples in a step of the first run: kept, whatever nodes the next job is given
#   bad-hosts.txt     "HOST why": hosts that were at fault
#   failed-at.txt     after which iteration of its own a job failed; 0: before the first
#   stopped.txt       why no further job does anything
#   output.txt        what they print

LONGSEQ_EXIT_NO_ROOM=73

longseq_leave() { # longseq_leave FILE LINE: adds a line to one of these; says so where that cannot be done
    local REPLY
    { printf '%s\n' "$2" >>"$LONGSEQ_JOB/$1"; } 2>/dev/null && return
    longseq_write_fault "$LONGSEQ_JOB"
    longseq_say "$LONGSEQ_JOB/$1 cannot be written (${REPLY:-a full disk? a quota?}), so the next job will not know: $2"
}

longseq_last_line() { # longseq_last_line FILE: sets REPLY to it; empty where there is none
    REPLY=
    [[ ! -f $LONGSEQ_JOB/$1 ]] || REPLY=$(tail -n 1 -- "$LONGSEQ_JOB/$1")
}

longseq_runs() { # longseq_runs COMMAND [COUNT]: calls it with the folder of each run after the first COUNT
    local run number=0
    [[ -f $LONGSEQ_JOB/runs.txt ]] || return 0
    while IFS= read -r -d '' run; do
        number=$((number + 1))
        ((number <= ${2:-0})) || "$1" "$run"
    done <"$LONGSEQ_JOB/runs.txt"
}

# Each is called with a run's folder, the oldest first, and sets REPLY
longseq_with_checkpoint() {
    local whole
    for whole in "$1"/checkpoints/step-*[0-9]/manifest.json; do
        [[ ! -e $whole ]] || REPLY=$1
    done
}
longseq_asked_to_stop() { [[ ! -e $1/STOP ]] && REPLY='' || REPLY=$1; } # the last run counts
longseq_iteration() {
    # Of two lines the last may be cut off
    [[ ! $(tail -n 2 -- "$1/metrics.jsonl" 2>/dev/null) =~ .*\"iteration\":\ *([0-9]+)[,}] ]] || REPLY=${BASH_REMATCH[1]}
}
longseq_one_more() { REPLY=$((REPLY + 1)); }

longseq_newest_run() { # sets REPLY to the newest run of this job that has a whole checkpoint
    REPLY=
    longseq_runs longseq_with_checkpoint
}

longseq_count_runs() { # sets REPLY to how many runs this job has had
    REPLY=0
    longseq_runs longseq_one_more
}

longseq_reached() { # longseq_reached COUNT: sets REPLY to the last iteration of the runs after the first COUNT
    REPLY=0
    longseq_runs longseq_iteration "$1"
}

# ---------------------------------------------------------------- does the chain go on?

longseq_stop_chain() { # longseq_stop_chain REASON: no job of this chain after this one does anything
    longseq_leave stopped.txt "$1"
    longseq_say "no further job of this chain will train: $1"
}

longseq_write_fault() { # longseq_write_fault FOLDER: sets REPLY to why no small file can be written there; empty where one can
    local file=$1/.room status=0
    REPLY=$({ export LC_ALL=C && head -c 65536 /dev/zero >"$file" && rm -f -- "$file"; } 2>&1) || status=$?
    REPLY=${REPLY##*: }
    ((status)) || REPLY=
    ((status < 128)) || REPLY='File too large' # by a signal, where there is a limit
    ((status == 0)) || rm -f -- "$file" 2>/dev/null || :
}

longseq_means_full() { # longseq_means_full ERROR: a disk that fails, or may only be read, has no room to wait for
    [[ $1 == 'No space left on device' || $1 == 'Disk quota exceeded' || $1 == 'File too large' ]]
}

longseq_has_room() { # longseq_has_room FOLDER: does no small file lack room there?
    local REPLY
    longseq_write_fault "$1"
    ! longseq_means_full "$REPLY"
}

longseq_tell_fault() { # longseq_tell_fault FOLDER: says why nothing can be written there; status: the exit code for that, 0: it can
    local REPLY
    longseq_write_fault "$1"
    [[ $REPLY ]] || return 0
    if ! longseq_means_full "$REPLY"; then
        longseq_say "nothing can be written in $1: $REPLY"
        return 1
    fi
    longseq_lacking "$1"
    longseq_say "there is no room in $1 $REPLY"
    return "$LONGSEQ_EXIT_NO_ROOM"
}

longseq_lacking() { # longseq_lacking FOLDER: sets REPLY to what is behind a folder without room, as far as it says, and the remedy
    local total=0 free=0
    REPLY='(a full disk? a quota?): free some'
    { read -r total free < <(stat -f -c '%c %d' -- "$1" 2>/dev/null); } || return 0
    [[ $free != 0 || $total == 0 ]] || REPLY='(for one more file, however small: df -i): remove some'
}

longseq_lacked_room() { # longseq_lacked_room STATUS: did it end for want of room on a disk?
    (($1 == LONGSEQ_EXIT_NO_ROOM)) || { [[ $1 == [12] ]] && ! longseq_has_room "$LONGSEQ_JOB"; }
}

longseq_stop_at_file() { # no further job where there is a file STOP in the last run's folder
    local REPLY=''
    longseq_runs longseq_asked_to_stop
    [[ -n $REPLY ]] || return 1
    longseq_stop_chain "there is a file STOP in $REPLY"
}

longseq_await_room() { # waits for room; status 0: to train again, in this job. Needs running.sh
    # In this job's own time: a disk that is full for a minute would use up a chain that has waited for days
    local REPLY='' most=3600
    longseq_runs longseq_asked_to_stop
    [[ -z ${LONGSEQ_TOLD-}$REPLY ]] || return 1
    longseq_time_left
    # An hour at most: all its hosts stand idle
    [[ -z $REPLY ]] || ((REPLY - LONGSEQ_WORTH_IT >= most)) || most=$((REPLY - LONGSEQ_WORTH_IT))
    ((most >= 60)) || return 1
    longseq_say "no room on a disk: this job looks once a minute whether there is some, and trains again then"
    longseq_until_told longseq_look_for_room "$most"
}

longseq_look_for_room() { # longseq_look_for_room SECONDS: for so long
    local left=$1
    for (( ; left >= 60; left -= 60)); do
        sleep 60 & # a signal ends `wait` alone
        wait $!
        ! longseq_has_room "$LONGSEQ_JOB" || ! longseq_has_room "${TMPDIR:-/tmp}" || return 0
    done
    return 1
}

longseq_judge_end() { # longseq_judge_end STATUS COUNT LOST: would the next job only do the same again?
    # COUNT: runs before this job; LOST: the last line of bad-hosts.txt then
    local place said alone=1
    if longseq_lacked_room "$1"; then # whoever met it has said where
        longseq_stop_at_file || longseq_say "there was no room in $LONGSEQ_JOB, or on another disk: the next job tries again"
        return 0
    fi
    longseq_last_line bad-hosts.txt
    [[ $REPLY == "${3-}" ]] || alone=0 # what failed on the hosts that were left may do on all
    # Of its own run: who has lost a host at 1500 and another at 1400, going on from 1000, repeats nothing
    longseq_reached "$2"
    place=$REPLY
    case $1 in
        0) longseq_stop_chain 'training is done' ;;
        75)
            rm -f -- "$LONGSEQ_JOB/failed-at.txt"
            longseq_stop_at_file || :
            ;;
        2 | 1)
            if ((alone == 0)); then
                :
            elif (($1 == 2)); then
                longseq_stop_chain 'there is a mistake in its settings (exit code 2)'
            else # once a run has trained, its settings are good, and something else may have been the cause
                longseq_reached 0
                ((REPLY)) || longseq_stop_chain 'it failed (exit code 1) before its first iteration, and would again'
            fi
            ;;
        69) # another host is another cause
            longseq_last_line bad-hosts.txt
            place+="${REPLY:+ ${REPLY%% *}}"
            ;;
    esac
    [[ ! -e $LONGSEQ_JOB/stopped.txt && $1 != 75 ]] || return 0
    longseq_last_line failed-at.txt
    said="after iteration ${place/ / on }"
    [[ $place != 0* ]] || said="before its first iteration${said#after iteration 0}"
    [[ $REPLY != "$place" ]] || longseq_stop_chain "it failed twice $said (exit code $1)"
    longseq_leave failed-at.txt "$place"
}

# ---------------------------------------------------------------- hosts that were at fault

longseq_blame() { # longseq_blame HOST WHY: the next jobs of this chain do without it, where they can
    [[ -z ${LONGSEQ_JOB-} ]] || longseq_leave bad-hosts.txt "$1 $2"
}

longseq_bad_last() { # puts hosts that were at fault behind the others; sets LONGSEQ_BAD, array
    local host good=() bad=()
    LONGSEQ_BAD=()
    [[ -n ${LONGSEQ_JOB-} && -f $LONGSEQ_JOB/bad-hosts.txt ]] || return 0
    while read -r host _; do bad+=("$host"); done <"$LONGSEQ_JOB/bad-hosts.txt"
    for host in "${LONGSEQ_HOSTS[@]}"; do
        if [[ " ${bad[*]-} " == *" $host "* ]]; then LONGSEQ_BAD+=("$host"); else good+=("$host"); fi
    done
    LONGSEQ_HOSTS=(${good[@]+"${good[@]}"} ${LONGSEQ_BAD[@]+"${LONGSEQ_BAD[@]}"})
}

longseq_tell_bad() { # what becomes of those, once it is known how many hosts are used
    local host
    for host in ${LONGSEQ_BAD[@]+"${LONGSEQ_BAD[@]}"}; do
        if [[ " ${LONGSEQ_HOSTS[*]} " == *" $host "* ]]; then
            longseq_say "note: $host was at fault in an earlier job of this chain, and is used again: there is no\
 other (SPARE_NODES=1 asks for one more)"
        else
            longseq_say "note: $host is left out, as it was at fault in an earlier job of this chain"
        fi
    done
}

longseq_exclude() { # tells Slurm that the jobs of this chain which are left shall not be given those hosts
    local id after=0
    [[ -n ${SLURM_JOB_ID-} && -f $LONGSEQ_JOB/bad-hosts.txt && -f $LONGSEQ_JOB/jobs.txt ]] || return 0
    while read -r id; do
        ((! after)) || longseq_exclude_from "$id" || :
        [[ $id != "$SLURM_JOB_ID" ]] || after=1
    done <"$LONGSEQ_JOB/jobs.txt"
}

longseq_exclude_from() { # longseq_exclude_from JOB
    local host usable bad=() wanted partition list
    read -r wanted partition < <(timeout 20 squeue -h -j "$1" -o '%D %P' 2>/dev/null) || return 0
    usable=$(timeout 20 sinfo -h -N -p "$partition" -t idle,alloc,mix,comp -o %N | sort -u) || return 0
    while read -r host; do # once each, where it was at fault last
        bad+=("$host")
    done < <(tac -- "$LONGSEQ_JOB/bad-hosts.txt" | awk '!seen[$1]++ { print $1 }' | tac)
    # A job that has too few left to choose from would wait for ever: rather those that were at fault long ago
    while ((${#bad[@]})) && longseq_too_few "${wanted%%-*}" "$usable" ${bad[@]+"${bad[@]}"}; do
        unset 'bad[0]'
        bad=(${bad[@]+"${bad[@]}"})
    done
    printf -v list '%s,' ${bad[@]+"${bad[@]}"}
    timeout 20 scontrol update "jobid=$1" "excnodelist=${list%,}" >/dev/null 2>&1 ||
        longseq_say "note: Slurm does not let job $1 do without ${list%,}"
}

longseq_too_few() { # longseq_too_few COUNT HOSTS BAD...: are fewer than COUNT of HOSTS, one a line, not BAD?
    local host left=0
    while read -r host; do [[ " ${*:3} " == *" $host "* ]] || left=$((left + 1)); done <<<"$2"
    ((left < $1))
}

# ---------------------------------------------------------------- what jobs print

longseq_keep() { # longseq_keep FILE: copies lines from stdin to stdout and FILE, on a full disk what there is room for
    # tee would close what it once could not write, and whoever writes to it would be killed
    local line lost=0
    trap '' HUP INT PIPE TERM USR1 USR2
    while IFS= read -r line || [[ -n $line ]]; do
        printf '%s\n' "$line" 2>/dev/null || :
        ((! lost)) || ! { printf '\nlongseq: %d lines are missing here, as there was no room\n' "$lost" >>"$1"; } 2>/dev/null ||
            lost=0
        { printf '%s\n' "$line" >>"$1"; } 2>/dev/null || lost=$((lost + 1))
    done
}

longseq_wait_kept() { # longseq_wait_kept PROCESS: closes the output that longseq_keep copies, and waits for it to have done so
    # Not for ever: what is left of a run may hold the output open
    local try
    exec >&- 2>&-
    for ((try = 0; try < 50; try++)); do
        [[ -n $1 ]] && kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
}
