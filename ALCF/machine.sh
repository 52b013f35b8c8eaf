# shellcheck shell=bash
# shellcheck disable=SC2034 # other files read the facts that are set here
# Sourced by setup.sh: which machine this is, and what its profile says of it. A profile is one file
# in machines/ with three functions:
#   longseq_profile_recognise   status 0 on that machine; sets LONGSEQ_NODE to login or compute
#   longseq_profile_facts       sets what differs from longseq_default_facts, and nothing else
#   longseq_profile_modules     loads its modules and conda
# What the functions here set: LONGSEQ_MACHINE, LONGSEQ_NODE (login: jobs are submitted from here;
# compute: ranks are started from here), LONGSEQ_HOSTNAME, and the facts:

longseq_default_facts() {      # a machine of which nothing is known
    LONGSEQ_SCHEDULER=none     # pbs, cobalt, slurm, none
    LONGSEQ_MPI=mpiexec        # a file of launchers/; mpiexec: the one that is here, whichever it is
    LONGSEQ_PER_HOST_FLAG=-N   # Open MPI's name for ranks a host
    LONGSEQ_ACCELERATOR=cuda   # what torch calls its GPUs: cuda, of NVIDIA's and AMD's, or xpu, of Intel's
    LONGSEQ_GPUS_PER_HOST=0    # ranks a compute node takes; 0: as many as are seen
    LONGSEQ_GPU_ORDER=         # GPUs in the order of the CPU cores, as 3,2,1,0; empty: 0 and up
    LONGSEQ_GPU=               # its GPU's name in longseq/planning/gpus.py, for plans
    LONGSEQ_NODE_NETWORK=      # GB/s of all network cards of a node, in one direction
    LONGSEQ_HOST_GIB=          # memory of a node
    LONGSEQ_FILES=             # GB/s that its file system takes from all nodes together
    LONGSEQ_BIND=()            # the launcher's flags that bind ranks to cores
    LONGSEQ_FABRIC=            # suffix of a host's name on the fast network
    LONGSEQ_PROXY=             # for web traffic of compute nodes
    LONGSEQ_SCRATCH=           # a node's own disk, with a short name
    LONGSEQ_QUEUES=()          # "NAME LEAST-MOST[gpus] LONGEST": a queue's nodes (or GPUs) and time
    LONGSEQ_QUEUE_FLAG=-q      # the scheduler's option that takes the queue
    LONGSEQ_QUEUE=             # where a job goes unless QUEUE says otherwise
    LONGSEQ_LEAST_TIME=0:00:00 # shorter jobs are refused
    LONGSEQ_FILESYSTEMS=       # must be asked for
    LONGSEQ_NEEDS_PROJECT=0    # 1: no job without a project
    LONGSEQ_SUBMIT=()          # further options of every submission
    LONGSEQ_SELECT_GPUS=       # PBS's resource that asks for a node's GPUs; empty: whole nodes have them
    LONGSEQ_RERUN_QUEUES=()    # queues that take only jobs which may be started again
    LONGSEQ_NCCL=()            # NAME=VALUE that the site advises for NCCL or oneCCL; SITE_NCCL=0 leaves them out
    LONGSEQ_NCCL_LIBRARIES=()  # folders that go before LD_LIBRARY_PATH with them
    LONGSEQ_TRANSPORT=         # what NCCL must take between hosts: libfabric, ib; empty: anything
    LONGSEQ_LEAST_BANDWIDTH=   # GB/s that two hosts must exchange, with all their GPUs; empty: 0.01
}

longseq_load_profile() { # longseq_load_profile NAME: its functions, over those of the last one
    # shellcheck source=ALCF/machines/workstation.sh
    source "$LONGSEQ_ROOT/ALCF/machines/$1.sh"
    LONGSEQ_MACHINE=$1
}

longseq_in_allocation() { # is this inside a job, or are hosts named?
    [[ -n ${HOSTFILE-}${COBALT_NODEFILE-}${PBS_NODEFILE-}${SLURM_JOB_NODELIST-}${LONGSEQ_JOB_HOSTS[*]-} ]]
}

longseq_is_slurm_site() { # Slurm's programs alone, without a cluster, make no login node
    command -v sbatch >/dev/null && [[ -e ${SLURM_CONF:-/etc/slurm/slurm.conf} ]]
}

longseq_find_machine() { # sets LONGSEQ_MACHINE, LONGSEQ_NODE and the facts; MACHINE always wins
    local file names=() name
    LONGSEQ_NODE='' LONGSEQ_HOSTNAME=$(uname -n)
    for file in "$LONGSEQ_ROOT"/ALCF/machines/*.sh; do
        name=${file##*/} name=${name%.sh}
        [[ $name == pbs || $name == slurm || $name == workstation ]] || names+=("$name")
    done
    names+=(pbs slurm workstation) # these recognise more than one machine, so they come last
    if [[ -n ${MACHINE-} ]]; then
        if [[ ! $MACHINE =~ ^[A-Za-z0-9_-]+$ || " ${names[*]} " != *" $MACHINE "* ]]; then
            longseq_refuse "MACHINE=$MACHINE is not known: choose one of ${names[*]}" || return
        fi
        longseq_load_profile "$MACHINE"
        # A machine that is named where it is not, as in a dry run on a laptop: what is asked for
        # is what its login nodes do
        longseq_profile_recognise || LONGSEQ_NODE=login
    else
        for name in "${names[@]}"; do
            longseq_load_profile "$name"
            longseq_profile_recognise && break
        done
    fi
    longseq_default_facts
    longseq_profile_facts
    longseq_find_job || return
    if longseq_in_allocation || [[ $LONGSEQ_SCHEDULER == none ]]; then
        LONGSEQ_NODE=compute
    fi
}

longseq_call_site() { # longseq_call_site COMMAND...: sites' modules and conda do not bear set -eu
    local options=$- status=0
    set +eu
    "$@"
    status=$?
    [[ $options != *e* ]] || set -e
    [[ $options != *u* ]] || set -u
    return "$status"
}

longseq_find_module_command() { # `module` is undefined in a bash that is no login shell
    local file
    for file in "${LMOD_PKG:+$LMOD_PKG/init/bash}" "${MODULESHOME:+$MODULESHOME/init/bash}" \
        /etc/profile.d/lmod.sh /etc/profile.d/modules.sh /etc/profile.d/zz-cray-pe.sh; do
        declare -F module >/dev/null && return
        # shellcheck disable=SC1090 # the site's own
        [[ ! -r $file ]] || source "$file"
    done
    declare -F module >/dev/null
}

longseq_load_modules() { # the machine's modules and conda, unless they are there or not wanted
    case ${SITE_MODULES-} in
        '' | 1 | on | true | yes) ;;
        0 | off | false | no) return ;;
        *) longseq_refuse "SITE_MODULES=$SITE_MODULES: give 1 (on) or 0 (off)" || return ;;
    esac
    # An environment that the user has activated is the one to stand on
    [[ -z ${CONDA_PREFIX-}${VIRTUAL_ENV-} && -z ${PYTHON-} ]] || return 0
    if [[ $(declare -f longseq_profile_modules) != *'module '* ]]; then
        return 0 # this machine has none
    fi
    if ! longseq_call_site longseq_find_module_command; then
        longseq_say "note: there is no \`module\` command here, so no module of $LONGSEQ_MACHINE is loaded"
        return 0
    fi
    # What modules print is for people, and this output may be a command to paste
    longseq_call_site longseq_profile_modules >&2 && return
    if longseq_is_dry; then
        longseq_say "note: the modules of $LONGSEQ_MACHINE are not here (see above)"
        return 0
    fi
    longseq_refuse "the modules of $LONGSEQ_MACHINE could not be loaded (see above): load what you need\
 yourself and set SITE_MODULES=0"
}

longseq_prepare_machine() { # modules, conda and proxies; LONGSEQ_BROUGHT: NAME=VALUE that the modules have set
    local name before
    before=$'\n'$(compgen -e)$'\n'
    LONGSEQ_BROUGHT=() LONGSEQ_UNSET=()
    longseq_load_modules || return
    for name in $(compgen -e); do
        [[ $before == *$'\n'"$name"$'\n'* ]] || LONGSEQ_BROUGHT+=("$name=${!name}")
    done
    [[ -n $LONGSEQ_PROXY && $LONGSEQ_NODE == compute ]] || return 0
    for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; do
        [[ -n ${!name-} ]] || export "$name=$LONGSEQ_PROXY"
    done
    [[ -n ${no_proxy-} ]] || export no_proxy=localhost,127.0.0.1
}

longseq_print_machine() { # for a dry run: what stands before the command
    local line lines=() ranks=ranks hosts=hosts
    ((LONGSEQ_RANKS > 1)) || ranks=rank
    ((${#LONGSEQ_HOSTS[@]} > 1)) || hosts=host
    printf '# machine %s: scheduler %s, %s %s on %s %s\n' "$LONGSEQ_MACHINE" "$LONGSEQ_SCHEDULER" \
        "$LONGSEQ_RANKS" "$ranks" "${#LONGSEQ_HOSTS[@]}" "$hosts"
    [[ -z $LONGSEQ_PROXY ]] || printf '# proxy %s\n' "$LONGSEQ_PROXY"
    mapfile -t lines < <(declare -f longseq_profile_modules)
    for line in "${lines[@]:2}"; do
        [[ $line != *'module '* ]] || printf '# modules %s\n' "${line#"${line%%[! ]*}"}"
    done
}
