# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Any PBS cluster that has no profile of its own.

longseq_profile_recognise() { # Slurm has a qsub of its own
    [[ -z ${SLURM_JOB_ID-} ]] || return 1
    if [[ -n ${PBS_NODEFILE-}${PBS_JOBID-} ]]; then
        LONGSEQ_NODE=compute
    elif command -v qsub >/dev/null && ! longseq_is_slurm_site; then
        LONGSEQ_NODE=login
    else
        return 1
    fi
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=pbs
    LONGSEQ_SELECT_GPUS=ngpus # PBS's own name; whole nodes need no count of cores at most sites
}

longseq_profile_modules() {
    :
}
