# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Any Slurm cluster that has no profile of its own.

longseq_profile_recognise() {
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        LONGSEQ_NODE=compute
    elif longseq_is_slurm_site; then
        LONGSEQ_NODE=login
    else
        return 1
    fi
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=slurm LONGSEQ_MPI=srun
    LONGSEQ_QUEUE_FLAG=--partition
    LONGSEQ_SUBMIT=(--exclusive) # whole nodes
}

longseq_profile_modules() {
    :
}
