# shellcheck shell=bash
# Sourced: runs a command under signals that go on to it, the training's above all, and says how it ended. Needs setup.sh.
#   longseq_supervise COMMAND...   any command; what else is run beside it ends with it
#   longseq_run, longseq_finish    the training: launch.sh's LONGSEQ_COMMAND in LONGSEQ_RUN, and which rank failed first

source "$LONGSEQ_ROOT/ALCF/deadline.sh"
LONGSEQ_EXIT_BAD_HOST=69
# shellcheck disable=SC2034 # again.sh and chain.sh read it
LONGSEQ_WORTH_IT=300 # seconds that must be left of the job to train again in it

# ---------------------------------------------------------------- a command and the signals to it

longseq_signal_for() { # longseq_signal_for SIGNAL COUNT: sets REPLY to what the launcher is sent for it
    local row
    REPLY=$1
    [[ $1 != HUP ]] || REPLY=TERM # launchers drop a HUP; a lost terminal means: save and end
    # A second Ctrl-C means: end at once. A first one must let the ranks save
    for row in ${LONGSEQ_SIGNALS[@]+"${LONGSEQ_SIGNALS[@]}"}; do
        [[ $row != "$1:$2="* && $row != "$1:any="* ]] || REPLY=${row#*=}
    done
}

longseq_forward() { # longseq_forward SIGNAL: to the command that longseq_supervise runs
    longseq_signalled=$((longseq_signalled + 1)) LONGSEQ_TOLD=$1
    longseq_signal_for "$1" "$longseq_signalled"
    # Ranks that are sent another in its place tell what it was (longseq/run/safety/starters.py)
    [[ $REPLY == "$1" || ! -d ${LONGSEQ_RUN-}/log ]] || { printf '%s\n' "$1" >"$LONGSEQ_RUN/log/signal.txt"; } 2>/dev/null || :
    [[ -z $longseq_child ]] || kill "-$REPLY" "$longseq_child" 2>/dev/null || :
}

longseq_supervise() { # longseq_supervise COMMAND...: its status; signals go on to it, so that it can save
    # Sets LONGSEQ_TOLD to the last of them, empty where there was none. LONGSEQ_BESIDE: a function that is run beside it
    # with its process, and may end it; LONGSEQ_BESIDE_STATUS: that function's status, where it ended by itself
    local status=0 signal seen longseq_signalled=0 longseq_child='' beside='' REPLY before
    LONGSEQ_TOLD='' LONGSEQ_BESIDE_STATUS=0
    before=$(trap -p INT TERM HUP USR1)
    for signal in INT TERM HUP USR1; do
        # shellcheck disable=SC2064 # the name of this signal is meant
        trap "longseq_forward $signal" "$signal"
    done
    # Under job control the launcher has a process group of its own: Ctrl-C reaches it once, from
    # here, and not a second time from the terminal, which launchers take for "abort at once"
    set -m
    "$@" </dev/null &
    longseq_child=$!
    if [[ -n ${LONGSEQ_BESIDE-} ]]; then
        "$LONGSEQ_BESIDE" "$longseq_child" </dev/null &
        beside=$!
    fi
    set +m
    if [[ -n $LONGSEQ_TOLD ]]; then # it came before there was a child
        longseq_signal_for TERM 1
        kill "-$REPLY" "$longseq_child" 2>/dev/null || :
    fi
    while :; do
        seen=$longseq_signalled
        wait "$longseq_child" && status=0 || status=$?
        ((longseq_signalled > seen)) || break # a signal ends `wait` early
    done
    if [[ -n $beside ]] && { kill -INT -- "-$beside" || :; } 2>/dev/null; then
        wait "$beside" 2>/dev/null && LONGSEQ_BESIDE_STATUS=0 || LONGSEQ_BESIDE_STATUS=$?
    fi
    for signal in INT TERM HUP USR1; do # one that this shell was begun with ignored would end it: bash undoes that, too
        [[ $before == *" SIG$signal"* ]] || trap - "$signal"
    done
    eval "$before"
    return "$status"
}

longseq_until_told() { # longseq_until_told FUNCTION [ARGUMENT...]: its status, in a shell of its own; 75 where a signal has ended it
    # What a run has left in these is kept
    local status=0 LONGSEQ_TOLD LONGSEQ_BESIDE='' LONGSEQ_BESIDE_STATUS
    longseq_supervise longseq_end_all "$@" || status=$?
    [[ -z $LONGSEQ_TOLD ]] || status=75
    return "$status"
}

longseq_end_all() { # longseq_end_all FUNCTION [ARGUMENT...]: a signal ends this shell, and first what that runs beside it
    # `timeout` is the leader of a group of its own and hands TERM on to it
    trap 'trap "" INT TERM HUP USR1; kill -TERM $(jobs -p) 2>/dev/null; wait; exit 143' INT TERM HUP USR1
    "$@"
}

longseq_ended_as_told() { # longseq_ended_as_told STATUS: did the signal that was sent on end it, before it could say so?
    [[ -n ${LONGSEQ_TOLD-} ]] && (($1 > 128 && $1 != 130))
}

# ---------------------------------------------------------------- the training

longseq_write_hosts() { # the file that launchers are given
    { longseq_host_file >"$LONGSEQ_RUN/hosts.txt"; } 2>/dev/null && return
    longseq_tell_fault "$LONGSEQ_RUN" || return
    longseq_say "$LONGSEQ_RUN/hosts.txt cannot be written"
    return 1
}

longseq_prepare_launch() { # what ranks and those after us find in the run's folder
    longseq_write_hosts || return
    # A chain's next job goes on from this run, with the same batch
    [[ -n ${LONGSEQ_JOB-} ]] || return 0
    { printf '%s\0' "$LONGSEQ_RUN" >>"$LONGSEQ_JOB/runs.txt"; } 2>/dev/null ||
        longseq_say "$LONGSEQ_JOB/runs.txt cannot be written, so the next job will not go on from $LONGSEQ_RUN"
    [[ -s $LONGSEQ_JOB/global-batch.txt ]] || longseq_leave global-batch.txt "${LONGSEQ_VALUE[GLOBAL_BATCH]}"
}

longseq_make_deaf() { # longseq_make_deaf NAME,NAME...: sets deafly, which runs a command to which these signals cannot come
    # They wait, as ranks that look will see (longseq/run/safety/starters.py). bash can only have them ignored, which
    # launchers undo. What Python itself ignores is undone
    deafly=("$LONGSEQ_PYTHON" -I -S -c 'import os, signal, sys
for name in ("PIPE", "XFSZ"):
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, "SIG" + name) for name in sys.argv[1].split(",")])
os.execvp(sys.argv[2], sys.argv[2:])' "$1")
}

longseq_keep_screen() { # from here on what this script and its launcher say is lost where its reader goes away (`| head`)
    # Launchers end of it, in a fault, with the ranks. Who reads may be gone before; all is in RUN/log.
    # shellcheck disable=SC2016 # that shell's own
    local both='' pass_on=(/bin/sh -c 'trap "" HUP INT PIPE TERM USR1 USR2; exec "$0" -I -S "$@" 2>/dev/null'
        "$LONGSEQ_PYTHON" "$LONGSEQ_ROOT/longseq/host/split_output.py" /dev/null)
    [[ ! /dev/stdout -ef /dev/stderr ]] || both=1
    # No child of this shell: bash, told by a signal while it waits for another, was seen to wait for that, too
    [[ ! -p /dev/stdout && ! -S /dev/stdout ]] || exec > >("${pass_on[@]}" <&0 &)
    if [[ $both ]]; then
        exec 2>&1
    elif [[ -p /dev/stderr || -S /dev/stderr ]]; then
        exec 2> >("${pass_on[@]}" <&0 >&2 &)
    fi
}

longseq_run() { # runs LONGSEQ_COMMAND and returns its status
    # Ranks on this host end when this process is gone, or job.sh, which started it and judges its end
    local environment=("LONGSEQ_SCRIPT=$LONGSEQ_HOSTNAME:$$${LONGSEQ_JOB:++$PPID}")
    # A rank's output is never a terminal, so rank 0 is told of the user's
    [[ ! -t 1 ]] || environment+=("LONGSEQ_TERMINAL=$(tput cols 2>/dev/null || echo 100)")
    # A training gives signs of life; use.sh, without the watch, may be silent over a long sequence
    local LONGSEQ_BESIDE=
    ! declare -F longseq_watch_idle >/dev/null || LONGSEQ_BESIDE=longseq_watch_idle
    local deafly=()
    [[ -z $LONGSEQ_DEAF_TO ]] || longseq_make_deaf "$LONGSEQ_DEAF_TO"
    longseq_supervise ${deafly[@]+"${deafly[@]}"} env "${environment[@]}" "${LONGSEQ_COMMAND[@]}"
}

longseq_await_ranks() { # until those of this host have ended: where the launcher was killed they still save, and say so
    local try file here
    for ((try = 0; try < 150; try++)); do # 30 s: after 25 without a launcher they end (longseq/run/safety/watch.py)
        here=
        while IFS= read -r file; do # another network is another host's, as the tests' are
            [[ ! ${file%/*}/ns/net -ef /proc/self/ns/net ]] || here=1
        done < <(trap '' INT TERM HUP USR1 && grep -lzsxF -e "LONGSEQ_LOG=$LONGSEQ_RUN/log" /proc/[0-9]*/environ)
        [[ $here ]] || return 0
        sleep 0.2 || : # a terminal's Ctrl-C ends it
    done
}

longseq_finish() { # longseq_finish STATUS: sets REPLY to the run's exit code; says which rank failed first
    local log=$LONGSEQ_RUN/log first code said=
    REPLY=$1
    (($1 == 0)) || longseq_await_ranks
    # Most launchers take a rank's 75 for a failure, so the ranks write it down in place of it
    [[ ! -s $log/exit-code ]] || IFS= read -r said <"$log/exit-code" || [[ -n $said ]] # a line that was cut
    if (($1 == 0)); then
        REPLY=${said:-0}
        return 0
    fi
    first=$(longseq_first_failure "$log")
    # A scheduler's TERM to the launcher itself, which kills ranks that have saved; ranks that did not come to their end,
    # once the training was over (longseq/run/safety/watch.py)
    if [[ -z $first && ($said == 75 || $said == 0) ]]; then
        REPLY=$said
        ((said)) || return 0
    elif [[ -n $first ]]; then
        code=$(sed -n 3p "$first")
        # A user's mistake needs one line and no more, and who was told to stop is not at fault
        [[ $code == 2 || $code == 75 || $code == "$LONGSEQ_EXIT_NO_ROOM" ]] || longseq_introduce_failure "$first"
        sed -n '5,$p' "$first" >&2
        [[ $code != 69 ]] || ! longseq_host_of "$first" || longseq_blame "$REPLY" "$(sed -n 5p "$first")"
        REPLY=${code:-$1}
    elif ((${LONGSEQ_BESIDE_STATUS:-0} == LONGSEQ_EXIT_BAD_HOST)); then # nothing had moved (idle.sh)
        REPLY=$LONGSEQ_EXIT_BAD_HOST
    elif (($1 == 75)) && longseq_has_room "$LONGSEQ_RUN"; then
        # The ranks' own, who could not write it down, or whose launcher hands it on: rank 0 has said why
        :
    elif [[ -n ${LONGSEQ_TOLD-} && $1 != 130 ]]; then # launchers differ in the status then
        longseq_say "stopped by SIG$LONGSEQ_TOLD: the launcher ended, with status $1, before the ranks had"
        REPLY=75
    elif [[ ! -d $LONGSEQ_RUN ]]; then
        longseq_say "$LONGSEQ_RUN is gone: it was removed or moved while the run used it"
        REPLY=1
    elif (($1 == LONGSEQ_EXIT_NO_ROOM)); then
        longseq_lacking "$LONGSEQ_RUN"
        longseq_say "there is no room in $LONGSEQ_RUN $REPLY"
        REPLY=$LONGSEQ_EXIT_NO_ROOM
    elif longseq_tell_fault "$LONGSEQ_RUN"; then
        said=$(ulimit -v)
        [[ $said == unlimited ]] && said= || said="; ulimit -v leaves a process $said KiB of addresses, perhaps too few"
        longseq_say "the launcher ended with status $1, and no rank said why: $log/rank*.out$said"
    else
        REPLY=$?
    fi
    # Ranks that were killed have not said how the run ended; who looks at it finds it here (longseq/reports/runs.py)
    [[ ! -d $log ]] || { printf '%s\n' "$REPLY" >"$log/exit-code"; } 2>/dev/null || :
    [[ $REPLY == 2 || ! -d $LONGSEQ_RUN ]] || longseq_tell_load
}

longseq_tell_load() { # from where to go on after a run that failed
    local load=${LONGSEQ_VALUE[LOAD]-} file step newest=-1 REPLY theirs=$LONGSEQ_RUN/checkpoints/latest_checkpointed_iteration.txt
    for file in "$LONGSEQ_RUN"/checkpoints/step-*[0-9]/manifest.json; do
        step=${file%/*} step=${step##*/step-}
        [[ ! -e $file || ! $step =~ ^[0-9]{1,18}$ ]] || ((10#$step <= newest)) || newest=$((10#$step))
    done
    if [[ -f $theirs ]]; then # Megatron-DeepSpeed's, with the number alone
        read -r step <"$theirs" || :
        [[ ! $step =~ ^[0-9]{1,18}$ ]] || newest=$((10#$step))
    fi
    if ((newest >= 0)); then
        longseq_quote "$LONGSEQ_RUN"
        longseq_say "its newest checkpoint is of iteration $newest: go on with LOAD=$REPLY"
    elif [[ " ${LONGSEQ_ARGS[*]-} " == *' --save'[\ =]*' --save'[\ =]* ]]; then # behind --: what is there is not known here
        :
    elif [[ -n $load ]]; then
        longseq_quote "$load"
        longseq_say "it made no checkpoint of its own: go on as it did, with LOAD=$REPLY"
    elif [[ -s $LONGSEQ_RUN/metrics.jsonl ]]; then # what it trained is lost
        longseq_say 'it made no checkpoint to go on from'
    fi
}

longseq_first_failure() { # longseq_first_failure LOG: prints the note of the rank that failed first
    local file consequence when
    for file in "$1"/failed-*.txt; do
        [[ -f $file ]] || continue
        { IFS= read -r when && IFS= read -r _ && IFS= read -r _ && IFS= read -r consequence; } <"$file" || continue
        printf '%s %s %s\n' "$consequence" "$when" "${file##*/}"
    done | LC_ALL=C sort -k 1,1n -k 2,2n | { read -r _ _ file && printf '%s/%s' "$1" "$file"; } || :
}

longseq_introduce_failure() { # longseq_introduce_failure NOTE: which rank, which host, which file
    local rank=${1##*/failed-} host
    rank=${rank%.txt}
    host=$(sed -n 2p "$1")
    longseq_say "rank $rank on $host failed first; all that it printed is in ${1%/*}/rank$rank.out"
}
