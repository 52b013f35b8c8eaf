# shellcheck shell=bash
# Sourced: the mpiexec, mpirun or srun command of a run. Needs setup.sh and args.sh. Sets
#   LONGSEQ_LAUNCHER   array: the launcher and its flags, up to the program
#   LONGSEQ_STARTER    which launcher it is: the name of its file in launchers/; its facts are below
#   LONGSEQ_SETTINGS   array: NAME=VALUE that all ranks are given
#   LONGSEQ_UNSET      array: names of variables that no rank is given
#   LONGSEQ_COMMAND    array: the whole command

LONGSEQ_EXIT_BAD_HOST=69

longseq_is_alone() { # is this host the only one?
    [[ ${#LONGSEQ_HOSTS[@]} == 1 &&
        (${LONGSEQ_HOSTS[0]} == localhost || ${LONGSEQ_HOSTS[0]%%.*} == "${LONGSEQ_HOSTNAME%%.*}") ]]
}

longseq_host_file() { # prints the hosts, a line each, as the launcher wants them
    local slots=
    ((! LONGSEQ_HOST_SLOTS)) || slots=" slots=$LONGSEQ_RANKS_PER_HOST"
    printf "%s$slots\n" "${LONGSEQ_HOSTS[@]}"
}

# ---------------------------------------------------------------- which launcher

# A launcher is one file in launchers/ with three functions:
#   longseq_NAME_recognise VERSION   status 0 if that is what its mpiexec prints for --version
#   longseq_NAME_facts               sets what differs from longseq_default_launcher, and nothing else
#   longseq_NAME_command [PROGRAM]   sets LONGSEQ_LAUNCHER: the program and its flags for LONGSEQ_RANKS,
#                                    LONGSEQ_RANKS_PER_HOST, LONGSEQ_HOSTS and the machine's LONGSEQ_BIND

longseq_default_launcher() { # a launcher of which nothing is known
    # Where a rank finds its number, the ranks' count and its number on the host, as A/B,C,D: A, else B; empty:
    # wherever it finds any (rank.sh)
    LONGSEQ_NUMBERS=
    LONGSEQ_NAME_FLAG=   # hands a variable on to other hosts, by its name; empty: all go there by themselves
    LONGSEQ_HOST_SLOTS=0 # 1: its file of hosts says how many ranks each takes
    LONGSEQ_SIGNALS=()   # SIGNAL:COUNT=OTHER: what it is sent in place of the first, second, ... of a signal
}

longseq_load_launchers() {
    local file
    for file in "$LONGSEQ_ROOT"/ALCF/launchers/*.sh; do
        # shellcheck source=ALCF/launchers/hydra.sh
        source "$file"
    done
}

longseq_use_launcher() { # longseq_use_launcher NAME [PROGRAM]: sets LONGSEQ_STARTER, its facts, LONGSEQ_LAUNCHER
    local LONGSEQ_BIND=(${LONGSEQ_BIND[@]+"${LONGSEQ_BIND[@]}"}) LONGSEQ_WORDS=()
    LONGSEQ_STARTER=$1
    longseq_default_launcher
    "longseq_$1_facts"
    longseq_split "${LAUNCH_ARGS-}"
    ! longseq_binds || LONGSEQ_BIND=()
    [[ $LONGSEQ_DEVICE != cpu ]] || LONGSEQ_BIND=() # a profile's are for a rank a GPU
    "longseq_$1_command" "${@:2}"
    LONGSEQ_LAUNCHER+=(${LONGSEQ_WORDS[@]+"${LONGSEQ_WORDS[@]}"})
}

longseq_binds() { # does LONGSEQ_WORDS say how ranks are bound to cores?
    local word own
    for word in ${LONGSEQ_WORDS[@]+"${LONGSEQ_WORDS[@]}"}; do
        [[ $word != -*bind* && $word != --map-by* ]] || return 0
        for own in ${LONGSEQ_BIND[@]+"${LONGSEQ_BIND[@]}"}; do
            [[ $own != -* || ${word%%=*} != "${own%%=*}" ]] || return 0
        done
    done
    return 1
}

longseq_mpiexec() { # uses the mpiexec that is here, whichever it is
    local mpiexec=$LONGSEQ_VENV/bin/mpiexec version file name
    [[ -x $mpiexec ]] || mpiexec=$(command -v mpiexec || command -v mpirun) || mpiexec=mpiexec
    version=$("$mpiexec" --version 2>/dev/null) || version=
    for file in "$LONGSEQ_ROOT"/ALCF/launchers/*.sh; do
        name=${file##*/} name=${name%.sh}
        ! "longseq_${name}_recognise" "$version" || break
        name=hydra
    done
    longseq_use_launcher "$name" "$mpiexec"
}

longseq_choose_launcher() { # the profile's, or the one that is here
    if [[ $LONGSEQ_MPI == mpiexec || ($LONGSEQ_MPI == srun && -z ${SLURM_JOB_ID-}) ]]; then
        longseq_mpiexec
    elif declare -F "longseq_${LONGSEQ_MPI}_command" >/dev/null; then
        longseq_use_launcher "$LONGSEQ_MPI"
    else
        longseq_refuse "LONGSEQ_MPI=$LONGSEQ_MPI in ALCF/machines/${LONGSEQ_MACHINE-}.sh: there is no ALCF/launchers/$LONGSEQ_MPI.sh"
    fi
}

longseq_name_variables() { # adds the flag and NAME for every variable that ranks elsewhere must find as it is here
    local name
    while IFS= read -r name; do
        ! longseq_goes_to_hosts "$name" || LONGSEQ_LAUNCHER+=("$LONGSEQ_NAME_FLAG" "$name")
    done < <({ compgen -e && printf '%s\n' "${LONGSEQ_SETTINGS[@]%%=*}"; } | LC_ALL=C sort -u)
}

# ---------------------------------------------------------------- what every rank is given

longseq_port_is_taken() { # longseq_port_is_taken PORT: does somebody listen on it here?
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

longseq_free_port() { # sets REPLY to a port nobody listens on, another one for another job or process
    local id=${PBS_JOBID:-${SLURM_JOB_ID:-${COBALT_JOBID:-$$}}} try
    id=${id%%.*} id=${id//[!0-9]/}
    ((${#id} <= 9)) || id=${id: -9}
    for try in {0..99}; do
        REPLY=$((20000 + (10#${id:-0} * 7 + try * 101) % 10000)) # below the range the kernel hands out itself
        longseq_port_is_taken "$REPLY" || return 0
    done
}

longseq_resolves() { # longseq_resolves HOST: does it have an address?
    command -v getent >/dev/null || return 0
    timeout 20 getent ahosts "$1" >/dev/null
}

longseq_master() { # sets REPLY to the address where ranks meet: the first host, on the fast network
    REPLY=${MASTER_ADDR-}
    if [[ -n $REPLY ]]; then
        # torch would try for minutes
        longseq_is_dry || longseq_resolves "$REPLY" || longseq_refuse "MASTER_ADDR=$REPLY has no address here:\
 give the host of rank 0, or unset it for ${LONGSEQ_HOSTS[0]}"
        return
    fi
    REPLY=127.0.0.1
    longseq_is_alone && return
    REPLY=${LONGSEQ_HOSTS[0]}
    [[ $REPLY == *.* ]] || REPLY+=$LONGSEQ_FABRIC
}

longseq_threads() { # sets REPLY to the threads of a rank: the cores shared out, unless the user said
    local word
    REPLY=${OMP_NUM_THREADS-}
    [[ -z $REPLY ]] || return 0
    REPLY=1
    if [[ $LONGSEQ_DEVICE == cpu ]]; then
        REPLY=$((LONGSEQ_DEVICES / LONGSEQ_RANKS_PER_HOST))
    elif [[ ${LONGSEQ_VALUE[OFFLOAD_DEVICE]-} == cpu ]]; then # the optimizer's step is on the cores
        longseq_count_cores
        REPLY=$((REPLY / LONGSEQ_RANKS_PER_HOST))
        for word in ${LONGSEQ_BIND[@]+"${LONGSEQ_BIND[@]}"}; do # more would share the CPUs that a rank is bound to
            case $word in --depth=* | --cpus-per-task=*) ((REPLY <= ${word#*=})) || REPLY=${word#*=} ;; esac
        done
    fi
    ((REPLY >= 1)) || REPLY=1
}

longseq_site_settings() { # adds GPU order, NCCL and scratch to LONGSEQ_SETTINGS, as the site advises
    local gpus setting name libraries
    if [[ $LONGSEQ_DEVICE == cuda && -n $LONGSEQ_GPU_ORDER && -z ${CUDA_VISIBLE_DEVICES-} ]]; then
        IFS=, read -r -a gpus <<<"$LONGSEQ_GPU_ORDER"
        printf -v name '%s,' "${gpus[@]:0:LONGSEQ_RANKS_PER_HOST}"
        # Slurm sets CUDA_VISIBLE_DEVICES of its tasks anew, so rank.sh gives it this value again
        LONGSEQ_SETTINGS+=("CUDA_VISIBLE_DEVICES=${name%,}" "LONGSEQ_GPUS=${name%,}")
    fi
    if [[ $LONGSEQ_DEVICE == xpu ]]; then # a device a tile; a rank takes that of its number on the host
        [[ -n ${ZE_FLAT_DEVICE_HIERARCHY-} ]] || LONGSEQ_SETTINGS+=(ZE_FLAT_DEVICE_HIERARCHY=FLAT)
        [[ -n ${ZE_AFFINITY_MASK-} ]] || {
            printf -v name '%s,' $(seq 0 $((LONGSEQ_RANKS_PER_HOST - 1)))
            LONGSEQ_SETTINGS+=("ZE_AFFINITY_MASK=${name%,}")
        }
    fi
    # A long TMPDIR, as PBS makes one, is too long for the names of sockets
    if [[ -n $LONGSEQ_SCRATCH ]] && { [[ -z ${TMPDIR-} ]] || ((${#TMPDIR} > 60)); }; then
        LONGSEQ_SETTINGS+=("TMPDIR=$LONGSEQ_SCRATCH")
    fi
    ((LONGSEQ_VALUE[SITE_NCCL])) || longseq_site_off
    [[ $LONGSEQ_DEVICE != cpu && ${LONGSEQ_VALUE[SITE_NCCL]} == 1 ]] || return 0
    for setting in ${LONGSEQ_NCCL[@]+"${LONGSEQ_NCCL[@]}"}; do
        name=${setting%%=*}
        [[ -n ${!name-} ]] || LONGSEQ_SETTINGS+=("$setting") # the user's own wins
    done
    ((${#LONGSEQ_NCCL_LIBRARIES[@]})) || return 0
    printf -v libraries '%s:' "${LONGSEQ_NCCL_LIBRARIES[@]}"
    LONGSEQ_SETTINGS+=("LD_LIBRARY_PATH=${libraries%:}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
}

longseq_check_temporary() { # refuses a TMPDIR where nothing can be made: launchers take twenty lines to say so
    local said
    # One that is not there Open MPI makes, and others do without
    [[ -n ${TMPDIR-} && " ${LONGSEQ_SETTINGS[*]} " != *' TMPDIR='* ]] || return 0
    [[ -e $TMPDIR || $LONGSEQ_STARTER == openmpi ]] || return 0
    if [[ ! -e $TMPDIR ]]; then
        ! said=$(umask 077 && mkdir -p -- "$TMPDIR" 2>&1) || return 0
    elif said=$(mktemp -d -- "$TMPDIR/longseq-XXXXXX" 2>&1); then
        rmdir -- "$said"
        return
    fi
    case ${said##*: } in
        'No space left on device' | 'Disk quota exceeded')
            longseq_say "there is no room in TMPDIR=$TMPDIR: free some"
            return "$LONGSEQ_EXIT_NO_ROOM"
            ;;
    esac
    longseq_refuse "TMPDIR=$TMPDIR: ${said##*: }: name a folder that you can write to, or unset it for /tmp"
}

longseq_site_off() { # unsets what the profile advises for NCCL and what the modules have set; names in LONGSEQ_UNSET
    local name entry entries kept=
    for name in $(compgen -e); do
        [[ $name == NCCL_* || $name == FI_* || $name == CCL_* ]] || continue
        for entry in ${LONGSEQ_BROUGHT[@]+"${LONGSEQ_BROUGHT[@]}"} ${LONGSEQ_NCCL[@]+"${LONGSEQ_NCCL[@]}"}; do
            # What a user has set to something else is the user's
            [[ $entry == "$name=${!name}" ]] || continue
            LONGSEQ_UNSET+=("$name")
            unset "$name"
            break
        done
    done
    IFS=: read -r -a entries <<<"${LD_LIBRARY_PATH-}"
    for entry in ${entries[@]+"${entries[@]}"}; do
        [[ $entry == */aws-ofi-nccl/* || " ${LONGSEQ_NCCL_LIBRARIES[*]-} " == *" $entry "* ]] ||
            kept+=${kept:+:}$entry
    done
    [[ $kept == "${LD_LIBRARY_PATH-}" ]] || export LD_LIBRARY_PATH=$kept
}

longseq_rank_settings() { # sets LONGSEQ_SETTINGS, NAME=VALUE for all ranks
    LONGSEQ_SETTINGS=()
    longseq_site_settings
    longseq_master || return
    LONGSEQ_SETTINGS+=("MASTER_ADDR=$REPLY")
    longseq_free_port
    LONGSEQ_SETTINGS+=("MASTER_PORT=${MASTER_PORT:-$REPLY}")
    longseq_threads
    LONGSEQ_SETTINGS+=(
        "OMP_NUM_THREADS=$REPLY" "TORCH_EXTENSIONS_DIR=$LONGSEQ_VENV/extensions"
        "LONGSEQ_STARTER=$LONGSEQ_STARTER" "LONGSEQ_RANKS=$LONGSEQ_RANKS"
        "LOCAL_WORLD_SIZE=$LONGSEQ_RANKS_PER_HOST" "LONGSEQ_LOG=$LONGSEQ_RUN/log"
    )
    [[ -z $LONGSEQ_NUMBERS ]] || LONGSEQ_SETTINGS+=("LONGSEQ_NUMBERS=$LONGSEQ_NUMBERS")
    [[ $LONGSEQ_DEVICE == cuda ]] || LONGSEQ_SETTINGS+=("DS_ACCELERATOR=$LONGSEQ_DEVICE")
}

longseq_wrap() { # longseq_wrap PROGRAM...: sets LONGSEQ_COMMAND to run it on every rank
    longseq_choose_launcher || return
    longseq_rank_settings || return
    [[ -z $LONGSEQ_NAME_FLAG ]] || longseq_is_alone || longseq_name_variables
    local name unset=()
    for name in ${LONGSEQ_UNSET[@]+"${LONGSEQ_UNSET[@]}"}; do unset+=(-u "$name"); done
    LONGSEQ_COMMAND=(
        env ${unset[@]+"${unset[@]}"} "${LONGSEQ_SETTINGS[@]}" "${LONGSEQ_LAUNCHER[@]}" /bin/sh "$LONGSEQ_ROOT/ALCF/rank.sh" "$@"
    )
}

longseq_launch_command() { # sets LONGSEQ_COMMAND to that of the training
    longseq_wrap "$LONGSEQ_PYTHON" "$LONGSEQ_ROOT/pretrain_gpt.py" "${LONGSEQ_ARGS[@]}"
}

longseq_quote() { # longseq_quote WORD: sets REPLY to it as bash reads it, quoted only where it must be
    REPLY=$1
    [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || printf -v REPLY '%q' "$1"
}

longseq_print_command() { # longseq_print_command WORD...: quoted for bash, an option a line
    local word line='' settings=1 REPLY
    for word in "$@"; do
        if [[ $word == -* || $word == /bin/sh ]] || { ((settings)) && [[ $word != env ]]; }; then
            [[ -z $line ]] || printf '%s \\\n' "$line"
            line="   "
            [[ $word == *=* ]] || settings=0
        fi
        longseq_quote "$word"
        line+="${line:+ }$REPLY"
    done
    printf '%s\n' "$line"
}

# ---------------------------------------------------------------- running it

longseq_signal_for() { # longseq_signal_for SIGNAL COUNT: sets REPLY to what the launcher is sent for it
    local row
    REPLY=$1
    [[ $1 != HUP ]] || REPLY=TERM # launchers drop a HUP; a lost terminal means: save and end
    # A second Ctrl-C means: end at once. A first one must let the ranks save
    for row in ${LONGSEQ_SIGNALS[@]+"${LONGSEQ_SIGNALS[@]}"}; do
        [[ $row != "$1:$2="* ]] || REPLY=${row#*=}
    done
}

longseq_forward() { # longseq_forward SIGNAL: to the command that longseq_supervise runs
    longseq_signalled=$((longseq_signalled + 1)) LONGSEQ_TOLD=$1
    longseq_signal_for "$1" "$longseq_signalled"
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
    [[ -z $LONGSEQ_TOLD ]] || kill -TERM "$longseq_child" 2>/dev/null || : # it came before there was a child
    while :; do
        seen=$longseq_signalled
        wait "$longseq_child" && status=0 || status=$?
        ((longseq_signalled > seen)) || break # a signal ends `wait` early
    done
    if [[ -n $beside ]] && { kill -INT -- "-$beside" || :; } 2>/dev/null; then
        wait "$beside" 2>/dev/null && LONGSEQ_BESIDE_STATUS=0 || LONGSEQ_BESIDE_STATUS=$?
    fi
    trap - INT TERM HUP USR1
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

longseq_know_end() { # exports when this job ends, before the names that must travel are collected
    local REPLY end now
    longseq_end_time
    end=$REPLY
    if longseq_seconds "${LONGSEQ_VALUE[WALLTIME]}"; then # from this script's start on, not from the ranks'
        printf -v now '%(%s)T' -1
        ((end && end < now - SECONDS + REPLY)) || end=$((now - SECONDS + REPLY))
    fi
    [[ -z $end ]] || export LONGSEQ_END_TIME=$end
}

longseq_end_time() { # sets REPLY to when the scheduler ends this job, in seconds since 1970; empty: not known
    local now
    REPLY=${LONGSEQ_END_TIME:-${SLURM_JOB_END_TIME:-${COBALT_ENDTIME-}}}
    [[ -z $REPLY ]] || return 0
    longseq_ask_end
    printf -v now '%(%s)T' -1
    # With one in the past the run would save after an iteration and stop, and so in every job of a chain
    [[ -z $REPLY ]] || ((REPLY > now)) || {
        longseq_say "note: this job's end as the scheduler gives it is past, so it is not used (WALLTIME can say it)"
        REPLY=
    }
}

longseq_ask_end() { # sets REPLY to the end that Slurm or PBS gives when asked; empty: it does not say
    local text line begin='' wall='' time='[0-9]:[0-9]'
    REPLY=
    # Without a time in it `date` would take a text for the last midnight
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        text=$(SLURM_TIME_FORMAT=standard timeout 10 squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) || return 0
        [[ $text =~ $time ]] && REPLY=$(date -d "$text" +%s 2>/dev/null) || REPLY=
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

longseq_write_hosts() { # the file that launchers are given
    { longseq_host_file >"$LONGSEQ_RUN/hosts.txt"; } 2>/dev/null || {
        longseq_say "$LONGSEQ_RUN/hosts.txt cannot be written (a full disk? a quota?): free some"
        return "$LONGSEQ_EXIT_NO_ROOM"
    }
}

longseq_prepare_launch() { # what ranks and those after us find in the run's folder
    longseq_write_hosts || return
    # A chain's next job goes on from this run, with the same batch
    [[ -n ${LONGSEQ_JOB-} ]] || return 0
    { printf '%s\0' "$LONGSEQ_RUN" >>"$LONGSEQ_JOB/runs.txt"; } 2>/dev/null ||
        longseq_say "$LONGSEQ_JOB/runs.txt cannot be written, so the next job will not go on from $LONGSEQ_RUN"
    [[ -s $LONGSEQ_JOB/global-batch.txt ]] || longseq_leave global-batch.txt "${LONGSEQ_VALUE[GLOBAL_BATCH]}"
}

longseq_run() { # runs LONGSEQ_COMMAND and returns its status
    # Ranks on this host end when this process is gone, or job.sh, which started it and judges its end
    local environment=("LONGSEQ_SCRIPT=$LONGSEQ_HOSTNAME:$$${LONGSEQ_JOB:++$PPID}")
    # A rank's output is never a terminal, so rank 0 is told of the user's
    [[ ! -t 1 ]] || environment+=("LONGSEQ_TERMINAL=$(tput cols 2>/dev/null || echo 100)")
    # A training gives signs of life; use.sh, without the watch, may be silent over a long sequence
    local LONGSEQ_BESIDE=
    ! declare -F longseq_watch_idle >/dev/null || LONGSEQ_BESIDE=longseq_watch_idle
    longseq_supervise env "${environment[@]}" "${LONGSEQ_COMMAND[@]}"
}

longseq_finish() { # longseq_finish STATUS: sets REPLY to the run's exit code; says which rank failed first
    local log=$LONGSEQ_RUN/log first code
    REPLY=$1
    if (($1 == 0)); then
        # Most launchers take a rank's 75 for a failure, so the ranks write it down in place of it
        [[ ! -s $log/exit-code ]] || IFS= read -r REPLY <"$log/exit-code" || [[ -n $REPLY ]] # a line that was cut
        return 0
    fi
    first=$(longseq_first_failure "$log")
    if [[ -n $first ]]; then
        code=$(sed -n 3p "$first")
        # A user's mistake needs one line and no more, and who was told to stop is not at fault
        [[ $code == 2 || $code == 75 || $code == "$LONGSEQ_EXIT_NO_ROOM" ]] || longseq_introduce_failure "$first"
        sed -n '5,$p' "$first" >&2
        [[ $code != 69 ]] || longseq_blame "$(sed -n 2p "$first")" "$(sed -n 5p "$first")"
        REPLY=${code:-$1}
    elif ((${LONGSEQ_BESIDE_STATUS:-0} == LONGSEQ_EXIT_BAD_HOST)); then # nothing had moved (idle.sh)
        REPLY=$LONGSEQ_EXIT_BAD_HOST
    elif (($1 == 75)) && longseq_has_room "$LONGSEQ_RUN"; then
        # The ranks' own, who could not write it down, or whose launcher hands it on: rank 0 has said why
        :
    elif [[ -n ${LONGSEQ_TOLD-} && $1 != 130 ]]; then # launchers differ in the status then
        longseq_say "stopped by SIG$LONGSEQ_TOLD before a rank could say so"
        REPLY=75
    elif [[ ! -d $LONGSEQ_RUN ]]; then
        longseq_say "$LONGSEQ_RUN is gone: it was removed or moved while the run used it"
        REPLY=1
    elif (($1 == LONGSEQ_EXIT_NO_ROOM)) || ! longseq_has_room "$LONGSEQ_RUN"; then
        longseq_say "there is no room in $LONGSEQ_RUN (a full disk? a quota?): free some"
        REPLY=$LONGSEQ_EXIT_NO_ROOM
    else
        longseq_say "the launcher ended with status $1, and no rank said why: $log/rank*.out"
    fi
    # Ranks that were killed have not said how the run ended; who looks at it finds it here (longseq/reports/runs.py)
    [[ ! -d $log ]] || { printf '%s\n' "$REPLY" >"$log/exit-code"; } 2>/dev/null || :
    [[ $REPLY == 2 || ! -d $LONGSEQ_RUN ]] || longseq_tell_load
}

longseq_tell_load() { # from where to go on after a run that failed
    local load=${LONGSEQ_VALUE[LOAD]-} file step newest=-1 REPLY
    for file in "$LONGSEQ_RUN"/checkpoints/step-*[0-9]/manifest.json; do
        step=${file%/*} step=${step##*/step-}
        [[ ! -e $file || ! $step =~ ^[0-9]{1,18}$ ]] || ((10#$step <= newest)) || newest=$((10#$step))
    done
    if ((newest >= 0)); then
        longseq_quote "$LONGSEQ_RUN"
        longseq_say "its newest checkpoint is of iteration $newest: go on with LOAD=$REPLY"
    elif [[ -n $load ]]; then
        longseq_quote "$load"
        longseq_say "it made no checkpoint of its own: go on as it did, with LOAD=$REPLY"
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

longseq_load_launchers
