# shellcheck shell=bash
# shellcheck disable=SC2034 # launch.sh reads the facts
# PALS, the mpiexec of HPE's Cray machines under PBS.

longseq_pals_recognise() { # profiles name it
    return 1
}

longseq_pals_facts() { # it may not say how many ranks there are
    LONGSEQ_NUMBERS=PALS_RANKID/PMI_RANK,PALS_SIZE/PMI_SIZE,PALS_LOCAL_RANKID/PMI_LOCAL_RANK
}

longseq_pals_command() {
    # Unasked it binds each rank to one core
    [[ $LONGSEQ_DEVICE != cpu ]] || longseq_binds || LONGSEQ_BIND=(--cpu-bind none)
    LONGSEQ_LAUNCHER=(
        mpiexec --envall --line-buffer -n "$LONGSEQ_RANKS" --ppn "$LONGSEQ_RANKS_PER_HOST"
        --hostfile "$LONGSEQ_RUN/hosts.txt" ${LONGSEQ_BIND[@]+"${LONGSEQ_BIND[@]}"}
    )
}
