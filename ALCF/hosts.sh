# shellcheck shell=bash
# Sourced by setup.sh: which hosts there are, and how many ranks go to each. Sets
#   LONGSEQ_HOSTS                   array: the hosts that ranks are started on, the first is the master
#   LONGSEQ_SPARES                  array: hosts of the allocation kept for one that turns out bad
#   LONGSEQ_HOSTS_FROM              which variable named them; empty: this host alone
#   LONGSEQ_ALLOCATION              array: all hosts there are, but those that a run goes on without (again.sh)
#   LONGSEQ_SLOTS                   ranks a host by HOSTFILE; empty: not said
#   LONGSEQ_RANKS, LONGSEQ_RANKS_PER_HOST

LONGSEQ_HOST_NAME='^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$' # what may reach a launcher's command line
LONGSEQ_ADDRESS='^[0-9.]+$|:'                          # of IPv4, of IPv6: no name that ends at the first dot

longseq_check_alone() { # refuses to be one of several tasks of a launcher's: each would start all ranks, on one port
    local name
    for name in SLURM_STEP_NUM_TASKS PMI_SIZE PALS_SIZE OMPI_COMM_WORLD_SIZE; do
        { [[ ${!name-} != 1 ]] && longseq_is_count "${!name-}"; } || continue
        # Of `srun -N 2 --pty bash` the first task's shell alone is left, which tells of two
        [[ -z ${SLURM_PTY_PORT-} || ${SLURM_PROCID-} != 0 || ${!name} != "${SLURM_STEP_NUM_TASKS-}" ]] || continue
        longseq_refuse "$name=${!name}: this script starts its ranks by itself: call it once, without srun or mpiexec"
        return
    done
}

longseq_find_hosts() { # sets LONGSEQ_HOSTS: HOSTFILE, else the scheduler's, else this host
    LONGSEQ_HOSTS=() LONGSEQ_HOSTS_FROM='' LONGSEQ_SLOTS=''
    local name
    for name in HOSTFILE COBALT_NODEFILE PBS_NODEFILE; do
        [[ -n ${!name-} ]] || continue
        LONGSEQ_HOSTS_FROM=$name
        longseq_read_hosts "$name" "${!name}"
        return
    done
    if [[ -n ${SLURM_JOB_NODELIST-} ]]; then
        LONGSEQ_HOSTS_FROM=SLURM_JOB_NODELIST
        longseq_expand_nodelist "$SLURM_JOB_NODELIST" || longseq_refuse \
            "SLURM_JOB_NODELIST=$SLURM_JOB_NODELIST is not a list of nodes such as nid[000001-000004]"
        return
    fi
    if [[ -n ${LONGSEQ_JOB_HOSTS[*]-} ]]; then # own_job.sh
        LONGSEQ_HOSTS=(${LONGSEQ_JOB_HOSTS[@]+"${LONGSEQ_JOB_HOSTS[@]}"}) LONGSEQ_HOSTS_FROM="job ${PBS_JOBID-}"
        return
    fi
    [[ -z ${LONGSEQ_JOB_UNKNOWN-} ]] || longseq_refuse_unknown || return # own_job.sh
    LONGSEQ_HOSTS=(localhost)
}

longseq_leave_out() { # takes those of LONGSEQ_LEFT_OUT from LONGSEQ_HOSTS; sets LONGSEQ_ALLOCATION to what is left
    local host good=()
    for host in "${LONGSEQ_HOSTS[@]}"; do
        [[ " ${LONGSEQ_LEFT_OUT-} " == *" $host "* ]] || good+=("$host")
    done
    ((${#good[@]})) || longseq_refuse "LONGSEQ_LEFT_OUT=$LONGSEQ_LEFT_OUT leaves no host: unset it" || return
    # shellcheck disable=SC2034 # again.sh reads it
    LONGSEQ_HOSTS=("${good[@]}") LONGSEQ_ALLOCATION=("${good[@]}")
}

longseq_read_hosts() { # longseq_read_hosts NAME FILE: a host a line, once or as often as it has slots
    local name=$1 file=$2 line number=0 host slots
    local -A seen=()
    [[ -f $file && -r $file ]] ||
        longseq_refuse "$name=$file cannot be read: give a file with the name of a host on each line" || return
    # `read` leaves NULs out and would join two names
    ! IFS= read -r -d '' line <"$file" ||
        longseq_refuse "$name=$file has a NUL in it: save it as plain text, with the name of a host on each line" || return
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        ((number > 1)) || line=${line#$'\357\273\277'} # the byte order mark of editors
        line=${line%$'\r'} line=${line%%#*}
        [[ $line =~ ^[[:space:]]*([^[:space:]]+)([[:space:]]+slots=([0-9]{1,4}))?([[:space:]]+max[_-]slots=[0-9]+)?[[:space:]]*$ ]] || {
            [[ ! $line =~ [^[:space:]] ]] && continue
            longseq_refuse "$name=$file, line $number: \"${line:0:80}\" is not a host, or a host and slots=N"
            return
        }
        host=${BASH_REMATCH[1]} slots=${BASH_REMATCH[3]}
        [[ $host =~ $LONGSEQ_HOST_NAME ]] ||
            longseq_refuse "$name=$file, line $number: \"${host:0:80}\" is not the name of a host" || return
        if [[ -n $slots ]] && ((10#$slots == 0)); then
            longseq_say "note: $host is left out, as $file gives it slots=0"
            continue
        fi
        longseq_take_slots "$name" "$host" "$slots" || return
        [[ -n ${seen[$host]-} ]] || LONGSEQ_HOSTS+=("$host")
        seen[$host]=1
    done <"$file"
    ((${#LONGSEQ_HOSTS[@]})) || longseq_refuse "$name=$file names no host"
}

longseq_take_slots() { # longseq_take_slots FILE HOST SLOTS: sets LONGSEQ_SLOTS, the same for all hosts
    local slots=${3:+$((10#$3))}
    ((${#LONGSEQ_HOSTS[@]})) || LONGSEQ_SLOTS=$slots # the first one's
    [[ $slots == "$LONGSEQ_SLOTS" ]] || longseq_refuse "$1: $2 has ${slots:+slots=}${slots:-no slots}, a host before it\
 ${LONGSEQ_SLOTS:-none}: every host takes as many ranks, so give the same, or none and NGPU_PER_HOST"
}

longseq_expand_nodelist() { # longseq_expand_nodelist LIST: appends its nodes to LONGSEQ_HOSTS
    local rest=$1 part
    while [[ -n $rest ]]; do
        # Up to the next comma that is in no bracket
        [[ $rest =~ ^([A-Za-z0-9._-]*(\[[0-9,-]+\][A-Za-z0-9._-]*)*)(,(.+))?$ ]] || return
        part=${BASH_REMATCH[1]} rest=${BASH_REMATCH[4]}
        longseq_expand_brackets '' "$part" || return
    done
    ((${#LONGSEQ_HOSTS[@]}))
}

longseq_expand_brackets() { # longseq_expand_brackets DONE REST: a name with ranges such as n[01-03,7]
    local before after range ranges first last number
    if [[ $2 != *\[* ]]; then
        [[ $1$2 =~ $LONGSEQ_HOST_NAME ]] || return
        ((${#LONGSEQ_HOSTS[@]} < 100000)) || return
        LONGSEQ_HOSTS+=("$1$2")
        return
    fi
    before=${2%%\[*} after=${2#*\[}
    IFS=, read -r -a ranges <<<"${after%%\]*}"
    after=${after#*\]}
    for range in "${ranges[@]}"; do
        [[ $range =~ ^([0-9]{1,9})(-([0-9]{1,9}))?$ ]] || return
        first=${BASH_REMATCH[1]} last=${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}
        ((10#$first <= 10#$last && 10#$last - 10#$first < 100000)) || return
        for ((number = 10#$first; number <= 10#$last; number++)); do
            printf -v range '%0*d' "${#first}" "$number"
            longseq_expand_brackets "$1$before$range" "$after" || return
        done
    done
}

longseq_host_of() { # longseq_host_of NOTE: sets REPLY to the host at fault by a rank's note, as LONGSEQ_HOSTS has it; fails where it does not
    local rank=${1##*/failed-} name
    name=$(sed -n 2p "$1")
    for REPLY in "${LONGSEQ_HOSTS[@]}"; do
        [[ $REPLY != "$name" ]] || return 0
    done
    for REPLY in "${LONGSEQ_HOSTS[@]}"; do # a scheduler may give a name with or without its domain
        [[ $REPLY =~ $LONGSEQ_ADDRESS || ${REPLY%%.*} != "${name%%.*}" ]] || return 0
    done
    # A rank names its host by name, of which an address tells nothing
    REPLY=${LONGSEQ_HOSTS[${rank%.txt} / LONGSEQ_RANKS_PER_HOST]-}
    [[ $REPLY =~ $LONGSEQ_ADDRESS ]]
}

# ---------------------------------------------------------------- ranks

longseq_check_counts() { # whole numbers, or refused
    local name
    for name in NHOSTS NGPU_PER_HOST NGPUS; do
        [[ -z ${!name-} ]] || longseq_is_count "${!name}" ||
            longseq_refuse "$name=${!name}: give a whole number from 1" || return
    done
    [[ ${SPARE_NODES:-0} == 0 ]] || longseq_is_count "$SPARE_NODES" ||
        longseq_refuse "SPARE_NODES=$SPARE_NODES: give a whole number from 0"
}

longseq_choose_hosts() { # sets REPLY to how many hosts are used, of all there are less the spare ones
    local all=${#LONGSEQ_HOSTS[@]} most spare=${SPARE_NODES:-0} least
    most=$((all - spare))
    ((most >= 1)) || longseq_refuse "SPARE_NODES=$spare leaves no host: there are $all" || return
    REPLY=${NHOSTS:-$most}
    if [[ -n ${LONGSEQ_JOB-} ]] && ((REPLY > most)); then # rather fewer than no job
        longseq_fewer_hosts "$REPLY" "$all"
        return
    fi
    ((REPLY <= most)) || longseq_refuse "NHOSTS=$REPLY: there are $all host(s) here${SPARE_NODES:+ and SPARE_NODES=$spare}; give at most $most" || return
    [[ -z ${NHOSTS-} && -n ${NGPUS-} ]] || return 0
    longseq_fewest_hosts
    least=$REPLY
    [[ -n ${NGPU_PER_HOST-} || $LONGSEQ_DEVICE != cpu ]] || ((NGPUS < most)) || least=$most
    ((least <= most)) || least=$most
    while ((least < most && NGPUS % least)); do least=$((least + 1)); done
    REPLY=$least
}

longseq_fewest_hosts() { # sets REPLY to how few hosts hold NGPUS ranks: on one host they talk faster
    local each=${NGPU_PER_HOST-}
    REPLY=1
    [[ -n $each || $LONGSEQ_DEVICE == cpu ]] || each=$LONGSEQ_DEVICES
    [[ -z ${NGPUS-} || -z $each ]] || REPLY=$(((NGPUS + each - 1) / each))
}

longseq_fewer_hosts() { # longseq_fewer_hosts WANTED ALL: sets REPLY; in a chain whose job was given other nodes
    REPLY=$(($1 < $2 ? $1 : $2))
    ((REPLY < $1)) || return 0
    longseq_say "note: this job has $2 host(s), where $1 were asked for: it trains on those; the global batch is kept"
    [[ -z ${NGPUS-} ]] || ((NGPUS % $1)) || NGPU_PER_HOST=$((NGPUS / $1)) NGPUS=
}

longseq_count_ranks() { # sets LONGSEQ_RANKS and LONGSEQ_RANKS_PER_HOST from NGPUS, NGPU_PER_HOST, NHOSTS
    local hosts per_host ranks
    longseq_check_counts || return
    longseq_choose_hosts || return
    hosts=$REPLY
    local spares=("${LONGSEQ_HOSTS[@]:hosts}")
    ((${SPARE_NODES:-0})) || spares=()
    # shellcheck disable=SC2034 # preflight.sh reads them
    LONGSEQ_SPARES=(${spares[@]+"${spares[@]}"})
    LONGSEQ_HOSTS=("${LONGSEQ_HOSTS[@]:0:hosts}")
    per_host=${NGPU_PER_HOST-}
    if [[ -z $per_host && -n ${NGPUS-} ]]; then
        ((NGPUS % hosts == 0)) ||
            longseq_refuse "NGPUS=$NGPUS cannot be shared out over $hosts hosts: give a multiple" || return
        per_host=$((NGPUS / hosts))
    elif [[ -z $per_host ]]; then
        # On a CPU two ranks, whatever the cores: the smallest run that takes the parallel path
        per_host=2
        [[ ${LONGSEQ_GPUS_PER_HOST:-0} == 0 ]] || per_host=$LONGSEQ_GPUS_PER_HOST
        [[ $LONGSEQ_DEVICE == cpu ]] || per_host=$LONGSEQ_DEVICES
        per_host=${LONGSEQ_SLOTS:-$per_host}
    fi
    ranks=${NGPUS:-$((hosts * per_host))}
    if ((ranks != hosts * per_host)); then
        longseq_refuse "NGPUS=$ranks is not NHOSTS x NGPU_PER_HOST = $hosts x $per_host: leave one out" || return
    fi
    longseq_check_devices "$per_host" || return
    # shellcheck disable=SC2034 # launch.sh reads them
    LONGSEQ_RANKS=$ranks LONGSEQ_RANKS_PER_HOST=$per_host
}

longseq_check_devices() { # longseq_check_devices PER_HOST: are there enough? On a CPU more is allowed
    if [[ -n ${LONGSEQ_SLOTS-} ]] && (($1 > LONGSEQ_SLOTS)); then
        longseq_refuse "$1 ranks a host asked for (NGPUS, NGPU_PER_HOST), but $LONGSEQ_HOSTS_FROM gives\
 slots=$LONGSEQ_SLOTS: ask for at most that" || return
    fi
    (($1 <= LONGSEQ_DEVICES)) && return
    if [[ $LONGSEQ_DEVICE != cpu ]]; then
        longseq_refuse "$1 ranks a host asked for (NGPUS, NGPU_PER_HOST), but this host has\
 $LONGSEQ_DEVICES GPU(s): ask for at most that"
    elif (($1 > 64 * LONGSEQ_DEVICES)); then
        longseq_refuse "$1 ranks a host asked for (NGPUS, NGPU_PER_HOST), but this host has $LONGSEQ_DEVICES core(s): ask for at most 64 a core"
    else
        longseq_say "note: $1 ranks share $LONGSEQ_DEVICES core(s), so each will be slow"
    fi
}
