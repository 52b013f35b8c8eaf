#!/bin/sh
# What the launcher starts for every rank: gives the ranks' numbers the names that torch and DeepSpeed read,
# whichever launcher it was, and runs the program. It stays its parent: a program that is killed can say
# nothing any more, so that is said here, before the launcher ends all the others.
#
# LONGSEQ_NUMBERS says where this launcher gives them (launch.sh): inside a job of Slurm's, say, SLURM_PROCID
# is there as well and means something else. Without it the first numbers that are found count.
any=PMI_RANK/PALS_RANKID/OMPI_COMM_WORLD_RANK/SLURM_PROCID
any=$any,PMI_SIZE/PALS_SIZE/OMPI_COMM_WORLD_SIZE/SLURM_NTASKS
any=$any,MPI_LOCALRANKID/PALS_LOCAL_RANKID/PMI_LOCAL_RANK/OMPI_COMM_WORLD_LOCAL_RANK/SLURM_LOCALID
LONGSEQ_NUMBERS=${LONGSEQ_NUMBERS:-$any}

first() { # first NAME/NAME...: sets value to that of the first of these that has one
    value='' names=$1/
    while [ -z "$value" ] && [ -n "$names" ]; do
        eval "value=\${${names%%/*}-}"
        names=${names#*/}
    done
}

first "${LONGSEQ_NUMBERS%%,*}" && RANK=$value
names=${LONGSEQ_NUMBERS#*,}
first "${names%%,*}" && WORLD_SIZE=$value
first "${LONGSEQ_NUMBERS##*,}" && LOCAL_RANK=$value
# PALS may not say how many ranks there are; we have asked for them, so we know
WORLD_SIZE=${WORLD_SIZE:-${LONGSEQ_RANKS:-1}}
if [ "$WORLD_SIZE" != "${LONGSEQ_RANKS:-$WORLD_SIZE}" ] || { [ "$WORLD_SIZE" != 1 ] && [ -z "$RANK$LOCAL_RANK" ]; }; then
    echo "longseq: the launcher started rank ${RANK:-?} of $WORLD_SIZE on $(uname -n), and $LONGSEQ_RANKS ranks were" \
        "asked of ${LONGSEQ_STARTER:-it}: the mpiexec on the path is another one than the machine's profile says" >&2
    exit 2
fi
RANK=${RANK:-0} LOCAL_RANK=${LOCAL_RANK:-0}
PATH=${1%/*}:$PATH # beside Python lies ninja, which torch asks for when it loads DeepSpeed's ops
export RANK WORLD_SIZE LOCAL_RANK PATH
[ -z "${LONGSEQ_GPUS-}" ] || export CUDA_VISIBLE_DEVICES="$LONGSEQ_GPUS"
# torch's own AdamW asks a GPU that is in sight whether it records a graph, of numbers in host memory too
[ "${DS_ACCELERATOR-}" != cpu ] || export CUDA_VISIBLE_DEVICES=
# A file for each rank, from its first word on; rank 0 is on the screen as well (longseq.run.stdio)
if [ "$RANK" != 0 ] && [ -d "${LONGSEQ_LOG-}" ]; then
    exec >>"$LONGSEQ_LOG/rank$RANK.out" 2>&1
fi

# ---------------------------------------------------------------- the program, until its end

signals=0 told='' child=
# shellcheck disable=SC2329 # traps call it
forward() { # forward SIGNAL: to the program. Most launchers signal a whole group, so it may come twice: harmless,
    # but for INT, of which a second one means "at once"
    signals=$((signals + 1)) told=$1
    [ -n "$child" ] || return 0
    if [ "$1" = INT ]; then
        case $(grep SigIgn: "/proc/$child/status" 2>/dev/null) in
            *[2367abef]) told=TERM ;; # started beside a shell it is deaf to INT, until it asks for it
            *) [ "$group" != $$ ] || return 0 ;;
        esac
    fi
    kill -s "$told" "$child" 2>/dev/null
}

killed_here() { # how many processes the kernel has ended on this host for want of memory
    awk '$1 == "oom_kill" { print $2 }' /proc/vmstat 2>/dev/null
}

why() { # why SIGNAL: what mostly is behind it
    case $1 in
        KILL)
            now=$(killed_here)
            if [ -z "$now" ]; then # a kernel before 4.13 does not count
                echo "mostly for want of memory, else by hand or by the scheduler"
            elif [ "$now" -gt "$before" ]; then
                echo "the host ran out of memory: since the start its kernel has ended $((now - before)) process(es)" \
                    "for that; give MICRO_BATCH=1, USE_ACTIVATION_CHECKPOINTING=1 or fewer ranks a host"
            else
                echo "not for want of memory; so by hand, or by the scheduler"
            fi
            ;;
        TERM | INT | HUP | USR1 | XCPU) echo "sent by hand, or by the scheduler" ;;
        BUS) echo "mostly a full /dev/shm or disk, or a file that was cut while it was read" ;;
        ILL) echo "a library that was built for another processor" ;;
        *) echo "a fault in a library; where Python was stands above" ;;
    esac
}

note() { # note CODE TEXT: why this rank ends, in the form of longseq/run/safety/abort.py; the first reason counts
    if [ -d "${LONGSEQ_LOG-}" ]; then
        (set -C && printf '%s\n' "$(date +%s.%N)" "$(uname -n)" "$1" 0 "$2" \
            >"$LONGSEQ_LOG/failed-$RANK.txt") 2>/dev/null
    else
        printf '%s\n' "$2" >&2
    fi
}

# What a bench lets a rank on the CPU take: an allocation beyond it fails, as on a GPU that is full
# shellcheck disable=SC3045 # dash and bash have it
[ -z "${LONGSEQ_RANK_KIB-}" ] || ulimit -d "$LONGSEQ_RANK_KIB"
before=$(killed_here)
read -r stat <"/proc/$$/stat" && group=${stat##*) } && group=${group#* * } && group=${group%% *}
export LONGSEQ_PARENT="$PPID" # without it the program ends
trap 'forward HUP' HUP
trap 'forward INT' INT
trap 'forward TERM' TERM
trap 'forward USR1' USR1
"$@" &
child=$!
while :; do
    seen=$signals
    wait "$child" && status=0 || status=$?
    [ "$signals" != "$seen" ] || break # a signal ends `wait` early
done
# 130 is our own: a second Ctrl-C
if [ "$status" -le 128 ] || [ "$status" = 130 ]; then exit "$status"; fi
signal=$(kill -l "$status" 2>/dev/null) || exit "$status"
if [ "$signal" = "$told" ]; then # it had not come so far as to take it
    name=$signal
    # What the script was sent, where it passed on this one for it
    [ ! -s "${LONGSEQ_LOG-}/signal.txt" ] || read -r name <"$LONGSEQ_LOG/signal.txt"
    note 75 "longseq: stopped before the first iteration by SIG$name"
    [ -d "${LONGSEQ_LOG-}" ] || exit 75 # no script reads that note: a launcher alone gives this code on
else
    note "$status" "longseq: rank $RANK (process $child) on $(uname -n) was ended by SIG$signal: $(why "$signal")"
fi
# As the program did: launchers end the others at once for that
# shellcheck disable=SC3045 # dash and bash have it
ulimit -c 0
trap - HUP INT TERM USR1
kill -s "$signal" $$
exit "$status"
