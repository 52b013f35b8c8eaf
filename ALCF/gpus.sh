# shellcheck shell=bash
# shellcheck disable=SC2034 # the other files read what is set here
# Sourced by setup.sh: what the ranks compute on. Sets
#   LONGSEQ_DEVICE, LONGSEQ_DEVICES  cuda, xpu (Intel's GPUs) or cpu, and how many of them one host has; of a GPU of
#                                    Intel's each tile. torch calls AMD's GPUs cuda too
# A host's own GPUs are counted; those of the nodes that a job will have are the profile's, else NGPU_PER_HOST, else
# asked of the scheduler.

longseq_is_dry() { # is nothing to be started here? DRY_RUN's value itself is checked in args.sh
    [[ ${LONGSEQ_NODE-} == login || ${DRY_RUN-} == 1 || ${DRY_RUN-} == on || ${DRY_RUN-} == true ||
        ${DRY_RUN-} == yes ]]
}

longseq_seen_nvidia() { # sets REPLY to the NVIDIA GPUs that this host shows
    # LONGSEQ_BROKEN: what nvidia-smi said where it failed over something else than that there is none
    local line text status=0 limit=()
    REPLY=0 LONGSEQ_BROKEN=
    command -v nvidia-smi >/dev/null || return 0
    ! command -v timeout >/dev/null || limit=(timeout 20) # a driver that hangs would hold all that is behind
    text=$(${limit[@]+"${limit[@]}"} nvidia-smi -L 2>&1) || status=$?
    while IFS= read -r line; do
        [[ $line != GPU\ [0-9]*:* ]] || REPLY=$((REPLY + 1))
    done <<<"$text"
    # 6: no GPU, 9: no driver, 12: no library, as on login nodes and nodes of CPUs where the program is installed
    case $status in
        0 | 6 | 9 | 12) ;;
        124) LONGSEQ_BROKEN='no answer in 20 seconds' ;;
        *) [[ $text == *[Nn]'o devices'* ]] || LONGSEQ_BROKEN="${text:-nothing} (status $status)" ;;
    esac
}

longseq_check_driver() { # longseq_check_driver SEEN: a training that is meant for GPUs shall not go to the cores in silence
    # Who hides the GPUs, or names the cores, means it; on a login node the GPUs that count are elsewhere
    [[ -n ${LONGSEQ_BROKEN-} && $1 == 0 && ${DS_ACCELERATOR-} != cpu ]] || return 0
    [[ ${CUDA_VISIBLE_DEVICES-0} && ${CUDA_VISIBLE_DEVICES-0} != -1* ]] || return 0
    longseq_is_elsewhere || longseq_refuse "nvidia-smi -L fails here: ${LONGSEQ_BROKEN:0:200}: mend the driver, or set\
 DS_ACCELERATOR=cpu for CPU ranks"
}

longseq_seen_amd() { # sets REPLY to AMD's, by the kernel's own list: of its nodes those without SIMDs are processors
    local file
    REPLY=0
    for file in "${LONGSEQ_SYSFS:-/sys}"/class/kfd/kfd/topology/nodes/*/properties; do
        [[ ! -r $file ]] || ! grep -q '^simd_count [1-9]' "$file" || REPLY=$((REPLY + 1))
    done
}

longseq_seen_intel() { # sets REPLY to the tiles of Intel's, by the kernel's own lists: i915's, else xe's (U)
    local card tiles
    REPLY=0
    for card in "${LONGSEQ_SYSFS:-/sys}"/class/drm/card[0-9]*; do
        [[ ${card##*/} != *-* && $(cat -- "$card/device/vendor" 2>/dev/null) == 0x8086 ]] || continue
        mapfile -t tiles < <(compgen -G "$card/gt/gt[0-9]*" || compgen -G "$card/device/tile[0-9]*")
        REPLY=$((REPLY + ${#tiles[@]}))
    done
}

longseq_tell_untried() { # said at the start where nobody has run this yet
    local whose=
    [[ $LONGSEQ_DEVICE != xpu ]] || whose="Intel's"
    ! longseq_is_amd || whose="AMD's"
    [[ -z $whose ]] || longseq_say "note: on $whose GPUs this has never been run; what it does there follows from\
 documentation alone (docs/launch.md)"
}

longseq_is_amd() { # are the GPUs AMD's: those of the machine's profile, else those that this host shows?
    [[ $LONGSEQ_DEVICE == cuda ]] || return 1
    if [[ -n ${LONGSEQ_GPU-} ]]; then
        [[ $LONGSEQ_GPU == mi[0-9]* ]]
        return
    fi
    local LONGSEQ_BROKEN
    longseq_seen_nvidia
    ((REPLY == 0)) || return 1
    longseq_seen_amd
    ((REPLY))
}

longseq_seen_gpus() { # longseq_seen_gpus cuda|xpu: sets REPLY to the GPUs that this host shows to a program
    local name visible names=(CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES)
    if [[ $1 == xpu ]]; then
        names=(ZE_AFFINITY_MASK)
        longseq_seen_intel
    else
        longseq_seen_nvidia
        ((REPLY)) || longseq_seen_amd
    fi
    for name in "${names[@]}"; do
        [[ -n ${!name+set} ]] || continue
        IFS=, read -r -a visible <<<"${!name}"
        [[ ${visible[0]--1} != -1 ]] || visible=()
        ((${#visible[@]} >= REPLY)) || REPLY=${#visible[@]}
    done
}

longseq_count_cores() { # sets REPLY to the cores that this process may use
    # nproc obeys the affinity mask, but also OMP_NUM_THREADS, which is no count of cores
    REPLY=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
}

# ---------------------------------------------------------------- nodes that are elsewhere

longseq_slurm_gpus() { # prints how many GPUs nodes have, a line each: this job's, else those of the partition
    # Status 1 here and in the next where the scheduler does not answer: that is not "none"
    local text part kind='^gpu(:[^:(]+)?:([0-9]+)' tres='TresPerNode=[^[:space:]]*gpu[^[:space:]]*:([0-9]+)'
    local queue=("${QUEUE:+--partition=$QUEUE}")
    text=${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE-}}
    if [[ -n $text ]]; then
        printf '%s\n' "${text##*:}"
    elif [[ -n ${SLURM_JOB_ID-} ]]; then
        command -v scontrol >/dev/null || return 0
        text=$(timeout 20 scontrol show job "$SLURM_JOB_ID" 2>/dev/null) || return 1
        [[ ! $text =~ $tres ]] || printf '%s\n' "${BASH_REMATCH[1]}"
    else
        command -v sinfo >/dev/null || return 0 # a dry run elsewhere
        text=$(timeout 20 sinfo -h -o %G ${queue[0]:+"${queue[0]}"} 2>/dev/null) || return 1
        for part in ${text//,/ }; do # gpu:a100:4(S:0-1)
            [[ ! $part =~ $kind ]] || printf '%s\n' "${BASH_REMATCH[2]}"
        done
    fi
}

longseq_pbs_gpus() { # the same of PBS's nodes
    local text
    command -v pbsnodes >/dev/null || return 0
    text=$(timeout 20 pbsnodes -a 2>/dev/null) || return 1
    sed -n 's/^ *resources_available\.ngpus = \([1-9][0-9]*\)$/\1/p' <<<"$text"
}

longseq_asked_gpus() { # sets REPLY to the GPUs of a node of the scheduler's, 0 where it has none or does not say
    local text='' counts=() answered=1
    REPLY=0
    case $LONGSEQ_SCHEDULER in
        slurm) text=$(longseq_slurm_gpus) || answered=0 ;;
        pbs) text=$(longseq_pbs_gpus) || answered=0 ;;
    esac
    if ((! answered)); then # ranks for CPUs would be a waste of all GPUs of the job
        [[ ${DS_ACCELERATOR-} != cpu ]] || return 0
        REPLY=${NGPU_PER_HOST-}
        longseq_is_count "$REPLY" || longseq_refuse "$LONGSEQ_SCHEDULER does not answer, so how many GPUs a node has is not known: set\
 NGPU_PER_HOST, or DS_ACCELERATOR=cpu"
        return
    fi
    [[ -n $text ]] || return 0
    mapfile -t counts < <(sort -un <<<"$text")
    REPLY=${counts[${#counts[@]} - 1]}
    ((${#counts[@]} == 1)) || [[ -n ${NGPU_PER_HOST-} || ${DS_ACCELERATOR-} == cpu ]] ||
        longseq_refuse "the nodes here have ${counts[*]} GPUs: say how many yours have (NGPU_PER_HOST), or which (QUEUE)"
}

longseq_is_elsewhere() { # are the GPUs that count on other hosts: from a login node, or in a shell of salloc's there?
    longseq_is_dry && return
    [[ -n ${SLURM_JOB_ID-} && -z ${SLURM_STEP_ID-} && -z ${SLURM_NODENAME-}${SLURMD_NODENAME-} ]]
}

# ---------------------------------------------------------------- which, and how many

longseq_count_devices() { # sets LONGSEQ_DEVICE and LONGSEQ_DEVICES
    local site=${LONGSEQ_GPUS_PER_HOST:-0} seen LONGSEQ_BROKEN='' trust=0 kind=${DS_ACCELERATOR-} theirs=${LONGSEQ_ACCELERATOR:-cuda}
    case $kind in
        cuda | xpu) ;;
        '' | cpu) kind=$theirs ;;
        *) longseq_refuse "DS_ACCELERATOR=$DS_ACCELERATOR: choose cuda, xpu or cpu" || return ;;
    esac
    longseq_seen_gpus "$kind"
    seen=$REPLY
    longseq_check_driver "$seen" || return
    if ((site + seen == 0)) && longseq_is_elsewhere; then
        longseq_asked_gpus || return
        site=$REPLY trust=1
        [[ ${DS_ACCELERATOR-} != "$kind" ]] || site=${NGPU_PER_HOST:-$site}
        ((site)) || [[ ${DS_ACCELERATOR-} != "$kind" ]] ||
            longseq_refuse "DS_ACCELERATOR=$kind: the scheduler does not say how many GPUs a node has: set NGPU_PER_HOST" ||
            return
    fi
    LONGSEQ_DEVICE=$kind LONGSEQ_DEVICES=$seen
    # A login node has none of the GPUs that the job will have
    ! longseq_is_dry || trust=1
    if [[ ${DS_ACCELERATOR-} == cpu ]] || ((seen + site == 0)); then
        [[ ${DS_ACCELERATOR-} != "$kind" ]] ||
            longseq_refuse "DS_ACCELERATOR=$kind: no GPU is seen here; leave it out for CPU ranks" || return
        longseq_count_cores
        LONGSEQ_DEVICE=cpu LONGSEQ_DEVICES=$REPLY
    elif ((site == 0)); then
        return 0
    elif [[ $theirs != "$kind" ]]; then
        longseq_refuse "DS_ACCELERATOR=$kind: the GPUs of $LONGSEQ_MACHINE are driven by $theirs: leave it out, or\
 DS_ACCELERATOR=cpu for ranks on the cores of its nodes"
    elif ((trust)) || [[ $kind == xpu && $seen == 0 ]]; then # where that kernel lists them is not known for sure
        LONGSEQ_DEVICES=$site
    elif ((seen == 0)); then
        longseq_refuse "no GPU is seen here, and a node of $LONGSEQ_MACHINE has $site (nvidia-smi -L, /sys/class/kfd,\
 CUDA_VISIBLE_DEVICES): leave this node out, or set DS_ACCELERATOR=cpu for CPU ranks"
    elif ((seen < site)); then
        longseq_say "note: this host shows $seen GPU(s), where a node of $LONGSEQ_MACHINE has $site"
    fi
}
