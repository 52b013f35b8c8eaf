# shellcheck shell=bash
# Sourced: the mpiexec, mpirun or srun command of a run; running.sh runs it. Needs setup.sh and args.sh. Sets
#   LONGSEQ_LAUNCHER   array: the launcher and its flags, up to the program
#   LONGSEQ_STARTER    which launcher it is: the name of its file in launchers/; its facts are below
#   LONGSEQ_SETTINGS   array: NAME=VALUE that all ranks are given
#   LONGSEQ_UNSET      array: names of variables that no rank is given
#   LONGSEQ_COMMAND    array: the whole command

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
    # shellcheck disable=SC2034 # running.sh reads them, and idle.sh the last
    # SIGNAL:COUNT=OTHER: what it is sent in place of the first, second, ... of a signal, or of any; the last that fits
    LONGSEQ_SIGNALS=() LONGSEQ_DEAF_TO='' LONGSEQ_ENDED_BY=TERM # the signals that are kept from it; that ends it for good
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
    local said made lacks=
    [[ -n ${TMPDIR-} && " ${LONGSEQ_SETTINGS[*]} " != *' TMPDIR='* ]] || return 0
    # One that is not there Open MPI makes, and others do without; it may be a slip of the keyboard
    if [[ ! -e $TMPDIR && $LONGSEQ_STARTER != openmpi ]]; then
        longseq_say "note: TMPDIR=$TMPDIR is not there: programs use another folder in its place"
        return 0
    elif [[ ! -e $TMPDIR ]]; then
        if said=$(umask 077 && mkdir -p -- "$TMPDIR" 2>&1); then
            longseq_say "note: TMPDIR=$TMPDIR was not there: it is made now"
            return 0
        fi
    elif said=$(mktemp -d -- "$TMPDIR/longseq-XXXXXX" 2>&1); then
        made=$said # a full one still has room for a folder
        said=$({ head -c 1048576 /dev/zero >"$made/room"; } 2>&1) || lacks=1
        rm -rf -- "$made"
        [[ $lacks ]] || return 0
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
    # shellcheck disable=SC2034 # running.sh runs it
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
longseq_load_launchers
