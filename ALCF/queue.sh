# shellcheck shell=bash
# Sourced by submit.sh: what is asked of the scheduler, checked against what the machine's profile says
# that the site takes. Needs setup.sh, args.sh, verb.sh, and LONGSEQ_TASK: train, bench or use. Sets
#   LONGSEQ_NODES   whole nodes of the job, spare ones included
#   LONGSEQ_SECONDS the job's time; LONGSEQ_MOST, the most that Slurm says the partition gives, empty where it says none
#   LONGSEQ_QSUB    the scheduler's command
#   LONGSEQ_REQUEST array: that command and its options

longseq_clock() { # longseq_clock SECONDS: sets REPLY to HH:MM:SS
    printf -v REPLY '%02d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60))
}

longseq_submission() { # longseq_submission [EXTRA...|VERB...]: everything up to the request; refuses what cannot run
    local node row name marks here=./ALCF/$LONGSEQ_TASK.sh
    [[ $LONGSEQ_TASK != train ]] || here=./ALCF/train-gpt3.sh
    longseq_check_alone || return
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name _ _ _ marks _ <<<"$row"
        [[ " $marks " != *' here '* || -z ${!name-} ]] ||
            longseq_refuse "$name=${!name}: a job's hosts come from the scheduler; unset it" || return
    done
    longseq_find_machine || return
    [[ $LONGSEQ_SCHEDULER != none ]] || longseq_refuse "MACHINE=$LONGSEQ_MACHINE has no scheduler to submit to: run\
 $here, or set MACHINE" || return
    if longseq_in_allocation; then
        longseq_refuse "this is inside a job already: run $here"
        return
    fi
    # shellcheck disable=SC2034 # hosts.sh reads it
    LONGSEQ_NODE=login # what the job will have is asked for, not what this host has
    longseq_prepare_machine || return
    longseq_count_devices || return
    longseq_find_python || return
    longseq_find_environment || return
    longseq_check_counts || return
    longseq_read_variables || return # for the job's own; longseq_args reads them again, with all checks
    longseq_choose_queue || return
    LONGSEQ_HOSTS=()
    for ((node = 0; node < LONGSEQ_NODES; node++)); do LONGSEQ_HOSTS+=("node$node"); done
    longseq_count_ranks || return
    if [[ $LONGSEQ_TASK == use ]]; then
        longseq_verb_args "$1" || return
    else
        longseq_args "$@" || return
        longseq_check_goes_on "$@" || return
        longseq_check_files || return
    fi
    longseq_check_queue || return
    longseq_request
}

longseq_check_goes_on() { # longseq_check_goes_on [EXTRA...]: the next job, or this one once more, goes on from its run's folder
    local REPLY
    longseq_moved "$@" || return 0
    case $REPLY in
        --load) longseq_refuse "--load behind --: a job that goes on would begin there again; give LOAD=... before the command" ;;
        --save) longseq_refuse "--save behind --: a job that goes on looks for checkpoints in its run's folder; OUTPUT_DIR says\
 where that is" ;;
    esac
}

longseq_check_files() { # the job would find this out after hours in the queue; of the data `longseq check` does
    local load=${LONGSEQ_VALUE[LOAD]}
    [[ -z $load || -d $load ]] || longseq_refuse "LOAD=$load is no folder of a run or of checkpoints"
}

# ---------------------------------------------------------------- what the site takes

longseq_choose_queue() { # sets LONGSEQ_NODES, LONGSEQ_JOB_QUEUE and LONGSEQ_SECONDS, by default the profile's
    local row name queue range time
    LONGSEQ_JOB_QUEUE=${LONGSEQ_VALUE[QUEUE]:-$LONGSEQ_QUEUE}
    longseq_fewest_hosts
    LONGSEQ_NODES=$((${NHOSTS:-$REPLY} + ${SPARE_NODES:-0}))
    # What reaches the scheduler's command line must not look like an option
    [[ -z ${LONGSEQ_VALUE[GPU_TYPE]} || $LONGSEQ_SCHEDULER == slurm ]] || longseq_refuse "GPU_TYPE=${LONGSEQ_VALUE[GPU_TYPE]}:\
 only Slurm has one name for that everywhere; say it to $LONGSEQ_SCHEDULER by SUBMIT_ARGS" || return
    for name in QUEUE PROJECT FILESYSTEMS GPU_TYPE; do
        [[ ${LONGSEQ_VALUE[$name]} =~ ^([A-Za-z0-9_][A-Za-z0-9_.:,@-]*)?$ ]] ||
            longseq_refuse "$name=${LONGSEQ_VALUE[$name]} is no name" || return
    done
    LONGSEQ_SECONDS=3600
    for row in ${LONGSEQ_QUEUES[@]+"${LONGSEQ_QUEUES[@]}"}; do
        read -r queue range time <<<"$row"
        range=${range%gpus}
        [[ $queue == "$LONGSEQ_JOB_QUEUE" ]] || continue
        ((LONGSEQ_NODES >= ${range%-*} && LONGSEQ_NODES <= ${range#*-})) || continue
        longseq_seconds "$time" && ((REPLY >= 3600)) || LONGSEQ_SECONDS=$REPLY
    done
    longseq_ask_most
    [[ -z $LONGSEQ_MOST ]] || ((LONGSEQ_MOST >= LONGSEQ_SECONDS)) || LONGSEQ_SECONDS=$LONGSEQ_MOST
    [[ -z ${LONGSEQ_VALUE[WALLTIME]} ]] && return
    longseq_seconds "${LONGSEQ_VALUE[WALLTIME]}"
    LONGSEQ_SECONDS=$REPLY
}

longseq_ask_most() { # sets LONGSEQ_MOST. Slurm takes a job of more time, which then waits for ever
    local name time most=0 queue=${LONGSEQ_JOB_QUEUE:-${SBATCH_PARTITION-}} own=" ${LONGSEQ_VALUE[SUBMIT_ARGS]}"
    LONGSEQ_MOST=
    # A site's own profile knows; who gives sbatch another partition or time in SUBMIT_ARGS does too
    [[ $LONGSEQ_SCHEDULER == slurm && ${#LONGSEQ_QUEUES[@]} == 0 && $own != *' '-[pt]* && $own != *' --'@(part|time)* ]] || return 0
    command -v sinfo >/dev/null || return 0 # a dry run elsewhere
    while read -r name time; do
        [[ $queue || $name == *'*' ]] || continue        # of all partitions the default one has a star
        [[ $time != +([0-9]):+([0-9]) ]] || time=0:$time # minutes and seconds
        longseq_seconds "$time" || return 0              # "infinite", "n/a"; of several partitions Slurm takes any
        ((REPLY <= most)) || most=$REPLY
    done < <(timeout 20 sinfo -h -o '%P %l' ${queue:+"--partition=$queue"} 2>/dev/null)
    ((most == 0)) || LONGSEQ_MOST=$most
}

longseq_check_queue() { # refuses what the site would refuse, or quietly drop
    local site=$LONGSEQ_MACHINE least name queue=${LONGSEQ_JOB_QUEUE:-${SBATCH_PARTITION:-the default partition}}
    ! longseq_only_plans || return 0
    ((! LONGSEQ_NEEDS_PROJECT)) || [[ -n ${LONGSEQ_VALUE[PROJECT]} ]] ||
        longseq_refuse "$site runs no job without a project: give -A PROJECT (or PROJECT=...)" || return
    longseq_seconds "$LONGSEQ_LEAST_TIME" && least=$REPLY || least=0
    longseq_clock "$LONGSEQ_SECONDS"
    ((LONGSEQ_SECONDS >= least)) ||
        longseq_refuse "WALLTIME=$REPLY: $site takes jobs from $LONGSEQ_LEAST_TIME on" || return
    ((LONGSEQ_VALUE[SITE_LIMITS])) || return 0
    if [[ -n $LONGSEQ_MOST ]] && ((LONGSEQ_SECONDS > LONGSEQ_MOST)); then
        name=$REPLY
        longseq_clock "$LONGSEQ_MOST"
        longseq_refuse "WALLTIME=$name is more than $queue gives a job, as sinfo says: at\
 most $REPLY (SITE_LIMITS=0 submits all the same)"
        return
    fi
    ((${#LONGSEQ_QUEUES[@]} == 0)) || longseq_check_limits
}

longseq_check_limits() { # the queue's nodes and time; a queue may have several rows, as it routes jobs by size
    local row queue range time least most asked count=$LONGSEQ_NODES what=nodes found=0 queues=() ranges=()
    longseq_clock "$LONGSEQ_SECONDS"
    asked=$REPLY
    for row in "${LONGSEQ_QUEUES[@]}"; do
        read -r queue range time <<<"$row"
        queues+=("$queue")
        [[ $queue == "$LONGSEQ_JOB_QUEUE" ]] || continue
        found=1
        if [[ $range == *gpus ]]; then what=GPUs count=$LONGSEQ_RANKS; fi
        range=${range%gpus} least=${range%-*} most=${range#*-}
        ranges+=("$range $what for $time")
        ((count >= least && count <= most)) || continue
        longseq_seconds "$time"
        ((LONGSEQ_SECONDS > REPLY)) || return 0
        longseq_refuse "WALLTIME=$asked is more than queue $queue gives to $count $what: at most $time (SITE_LIMITS=0 submits all the same)"
        return
    done
    if ((! found)); then
        longseq_refuse "QUEUE=$LONGSEQ_JOB_QUEUE is not a queue of $LONGSEQ_MACHINE: choose one of\
 $(printf '%s\n' "${queues[@]}" | uniq | tr '\n' ' ')(SITE_LIMITS=0 submits all the same)"
        return
    fi
    printf -v row '%s; ' "${ranges[@]}"
    longseq_refuse "queue $LONGSEQ_JOB_QUEUE takes no job of $count $what: ${row%; } (SITE_LIMITS=0 submits all the same)"
}

# ---------------------------------------------------------------- the request, by scheduler

longseq_request() { # sets LONGSEQ_QSUB and LONGSEQ_REQUEST
    local queue=() project=()
    [[ -z $LONGSEQ_JOB_QUEUE ]] || queue=("$LONGSEQ_QUEUE_FLAG" "$LONGSEQ_JOB_QUEUE")
    [[ -z ${LONGSEQ_VALUE[PROJECT]} ]] || project=(-A "${LONGSEQ_VALUE[PROJECT]}")
    LONGSEQ_REQUEST=(${project[@]+"${project[@]}"} ${queue[@]+"${queue[@]}"})
    longseq_clock "$LONGSEQ_SECONDS"
    LONGSEQ_QSUB='qsub'
    case $LONGSEQ_SCHEDULER in
        pbs) longseq_request_pbs "$REPLY" ;;
        cobalt) longseq_request_cobalt ;;
        slurm) longseq_request_slurm "$REPLY" ;;
    esac
    longseq_split "${LONGSEQ_VALUE[SUBMIT_ARGS]}" # last, so that they win
    longseq_check_array || return
    LONGSEQ_REQUEST=(
        "$LONGSEQ_QSUB" "${LONGSEQ_REQUEST[@]}" ${LONGSEQ_SUBMIT[@]+"${LONGSEQ_SUBMIT[@]}"}
        ${LONGSEQ_WORDS[@]+"${LONGSEQ_WORDS[@]}"}
    )
}

longseq_check_array() { # refuses an array of jobs, which would all go on from one another's runs
    local word asked=''
    for word in ${LONGSEQ_WORDS[@]+"${LONGSEQ_WORDS[@]}"}; do
        case $LONGSEQ_SCHEDULER:$word in
            slurm:-a* | slurm:--ar* | pbs:-J* | pbs:-t*) asked=SUBMIT_ARGS=${LONGSEQ_VALUE[SUBMIT_ARGS]} ;; # -t: Torque's
        esac
    done
    [[ $LONGSEQ_SCHEDULER != slurm || -z ${SBATCH_ARRAY_INX-} ]] || asked=SBATCH_ARRAY_INX=$SBATCH_ARRAY_INX
    [[ -z $asked ]] || longseq_refuse "$asked: jobs of an array would all do the same in one folder, at once: use --chain, or\
 submit once for each"
}

longseq_may_lose_hosts() { # could the run go on in this job without one (again.sh)?
    [[ $LONGSEQ_TASK != use ]] && ((LONGSEQ_NODES > 1 && LONGSEQ_VALUE[RESTARTS] > 0)) && ! longseq_counts_gpus
}

longseq_counts_gpus() { # does this queue count GPUs in place of nodes?
    local row
    for row in ${LONGSEQ_QUEUES[@]+"${LONGSEQ_QUEUES[@]}"}; do
        [[ $row == "$LONGSEQ_JOB_QUEUE "*gpus\ * ]] && return
    done
    return 1
}

longseq_request_pbs() { # longseq_request_pbs HH:MM:SS
    local select=$LONGSEQ_NODES name files=${LONGSEQ_VALUE[FILESYSTEMS]:-$LONGSEQ_FILESYSTEMS} rerun=n
    ! longseq_counts_gpus || select=$LONGSEQ_RANKS
    [[ $LONGSEQ_DEVICE == cpu || -z $LONGSEQ_SELECT_GPUS ]] || select+=:$LONGSEQ_SELECT_GPUS=$LONGSEQ_RANKS_PER_HOST
    for name in ${LONGSEQ_RERUN_QUEUES[@]+"${LONGSEQ_RERUN_QUEUES[@]}"}; do
        [[ $name != "$LONGSEQ_JOB_QUEUE" ]] || rerun=y
    done
    LONGSEQ_REQUEST+=(-N longseq -j oe -r "$rerun" -l "select=$select" -l "walltime=$1")
    # U: without it PBS ends a job that has lost a node; Cray's own PBS may ignore it
    ! longseq_may_lose_hosts || LONGSEQ_REQUEST+=(-W tolerate_node_failures=all)
    [[ -z $files ]] || LONGSEQ_REQUEST+=(-l "filesystems=$files")
}

longseq_request_cobalt() {
    local count=$LONGSEQ_NODES files=${LONGSEQ_VALUE[FILESYSTEMS]:-$LONGSEQ_FILESYSTEMS}
    ! longseq_counts_gpus || count=1
    LONGSEQ_REQUEST+=(-n "$count" -t $(((LONGSEQ_SECONDS + 59) / 60)) --mode script)
    [[ -z $files ]] || LONGSEQ_REQUEST+=(--attrs "filesystems=${files//:/,}")
}

longseq_request_slurm() { # longseq_request_slurm HH:MM:SS
    LONGSEQ_QSUB=sbatch
    local notice=120
    ((LONGSEQ_SECONDS >= 1200)) || notice=$((LONGSEQ_SECONDS / 10))
    LONGSEQ_REQUEST+=(
        --parsable --job-name=longseq "--nodes=$LONGSEQ_NODES" "--ntasks-per-node=$LONGSEQ_RANKS_PER_HOST"
        "--time=$1" --requeue --open-mode=append
    )
    # Before the end the job's shell is told; the ranks know the time themselves as well. A verb has nothing to save
    [[ $LONGSEQ_TASK == use ]] || LONGSEQ_REQUEST+=("--signal=B:USR1@$notice")
    ! longseq_may_lose_hosts || LONGSEQ_REQUEST+=(--no-kill) # without it Slurm ends a job that has lost a node
    [[ $LONGSEQ_DEVICE == cpu || " ${LONGSEQ_SUBMIT[*]-} " == *--gpus* ]] ||
        LONGSEQ_REQUEST+=("--gpus-per-node=${LONGSEQ_VALUE[GPU_TYPE]:+${LONGSEQ_VALUE[GPU_TYPE]}:}$LONGSEQ_RANKS_PER_HOST")
}

longseq_scheduler_settings() { # sets LONGSEQ_SETTINGS to the SBATCH_... that are set, which sbatch takes for options
    local name
    LONGSEQ_SETTINGS=()
    for name in $(compgen -e); do
        [[ $name != SBATCH_* ]] || longseq_is_secret "$name" "${!name}" || LONGSEQ_SETTINGS+=("$name=${!name}")
    done
}

longseq_print_submission() { # longseq_print_submission JOBS: for a dry run
    longseq_print_machine
    (($1 == 1)) || printf '# %d jobs, each after the end of the one before\n' "$1"
    longseq_scheduler_settings
    ((${#LONGSEQ_SETTINGS[@]} == 0)) || printf '# obeyed: %s\n' "${LONGSEQ_SETTINGS[@]}"
    printf '# command, in the folder of the job\n'
    longseq_print_command "${LONGSEQ_REQUEST[@]}" job.sh
    printf '# settings of the job\n'
    longseq_print_settings
}
