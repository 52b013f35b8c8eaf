# shellcheck shell=bash
# shellcheck disable=SC2034 # launch.sh reads the facts
# Open MPI's mpirun.

longseq_openmpi_recognise() {
    [[ $1 == *"Open MPI"* || $1 == *OpenRTE* ]]
}

longseq_openmpi_facts() {
    LONGSEQ_NUMBERS=OMPI_COMM_WORLD_RANK,OMPI_COMM_WORLD_SIZE,OMPI_COMM_WORLD_LOCAL_RANK
    LONGSEQ_NAME_FLAG=-x LONGSEQ_HOST_SLOTS=1
    # Of TERM, INT and HUP it kills in a second, and the first two may come to all processes of a job: it hears only HUP
    LONGSEQ_SIGNALS=(TERM:any=USR1 HUP:any=USR1 INT:any=HUP INT:1=USR1) LONGSEQ_DEAF_TO=TERM,INT LONGSEQ_ENDED_BY=HUP
}

longseq_openmpi_command() {
    LONGSEQ_LAUNCHER=("${1:-mpirun}" -n "$LONGSEQ_RANKS")
    # It counts cores and refuses more ranks than those, and refuses root
    [[ $LONGSEQ_DEVICE != cpu ]] || LONGSEQ_LAUNCHER+=(--oversubscribe)
    if ((${#LONGSEQ_BIND[@]})); then
        LONGSEQ_LAUNCHER+=("${LONGSEQ_BIND[@]}")
    else
        LONGSEQ_LAUNCHER+=(--bind-to none)
    fi
    ((EUID != 0)) || LONGSEQ_LAUNCHER+=(--allow-run-as-root)
    longseq_is_alone && return
    LONGSEQ_LAUNCHER+=("$LONGSEQ_PER_HOST_FLAG" "$LONGSEQ_RANKS_PER_HOST" --hostfile "$LONGSEQ_RUN/hosts.txt")
}
