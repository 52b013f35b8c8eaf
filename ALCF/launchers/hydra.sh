# shellcheck shell=bash
# shellcheck disable=SC2034 # launch.sh reads the facts
# Hydra, the mpiexec of MPICH and of its relatives (Intel MPI, MVAPICH, the mpich wheel); also taken for any
# mpiexec that no other file here knows.

longseq_hydra_recognise() {
    [[ $1 == *HYDRA* ]]
}

longseq_hydra_facts() {
    : # all as longseq_default_launcher has it
}

longseq_hydra_command() {
    LONGSEQ_LAUNCHER=("${1:-mpiexec}" -n "$LONGSEQ_RANKS")
    longseq_is_alone || LONGSEQ_LAUNCHER+=(-ppn "$LONGSEQ_RANKS_PER_HOST" -f "$LONGSEQ_RUN/hosts.txt")
}
