# shellcheck shell=bash
# shellcheck disable=SC2034 # launch.sh reads the facts
# Slurm's srun, inside a job of Slurm's.

longseq_srun_recognise() { # profiles name it
    return 1
}

longseq_srun_facts() {
    LONGSEQ_NUMBERS=SLURM_PROCID,SLURM_NTASKS,SLURM_LOCALID
    LONGSEQ_SIGNALS=(INT:1=TERM) # of INT it only prints a state
}

longseq_srun_command() {
    local hosts
    printf -v hosts '%s,' "${LONGSEQ_HOSTS[@]}"
    # Our ranks find each other by themselves, so no MPI of Slurm's; without --kill-on-bad-exit the
    # others would wait for a rank that failed
    LONGSEQ_LAUNCHER=(
        srun -u -n "$LONGSEQ_RANKS" -N "${#LONGSEQ_HOSTS[@]}" --ntasks-per-node="$LONGSEQ_RANKS_PER_HOST"
        --nodelist="${hosts%,}" --export=ALL --mpi=none --kill-on-bad-exit=1
    )
    [[ $LONGSEQ_DEVICE == cpu ]] || LONGSEQ_LAUNCHER+=(--gpus-per-node="$LONGSEQ_RANKS_PER_HOST")
    LONGSEQ_LAUNCHER+=(${LONGSEQ_BIND[@]+"${LONGSEQ_BIND[@]}"})
    # Inside a step of its own, as `srun --pty bash` is, the resources are taken by that step
    [[ -z ${SLURM_STEP_ID-} ]] || LONGSEQ_LAUNCHER+=(--overlap)
}
