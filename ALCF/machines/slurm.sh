# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Any Slurm cluster that has no profile of its own.

longseq_profile_recognise() {
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        LONGSEQ_NODE=compute
    elif command -v sbatch >/dev/null && [[ -e ${SLURM_CONF:-/etc/slurm/slurm.conf} ]]; then
        LONGSEQ_NODE=login # Slurm's programs alone, without a cluster, make no login node
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
