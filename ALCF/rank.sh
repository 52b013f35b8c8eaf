#!/bin/sh
# What the launcher starts for every rank: gives the ranks' numbers the names that torch and
# DeepSpeed read, whichever launcher it was, and becomes the program.
#
# LONGSEQ_NUMBERS says where this launcher gives them (launch.sh): inside a job of Slurm's, say, SLURM_PROCID
# is there as well and means something else. Without it the first numbers that are found count.
any=PMI_RANK/PALS_RANKID/OMPI_COMM_WORLD_RANK/SLURM_PROCID
any=$any,PMI_SIZE/PALS_SIZE/OMPI_COMM_WORLD_SIZE/SLURM_NTASKS
any=$any,MPI_LOCALRANKID/PALS_LOCAL_RANKID/PMI_LOCAL_RANK/OMPI_COMM_WORLD_LOCAL_RANK/SLURM_LOCALID
LONGSEQ_NUMBERS=${LONGSEQ_NUMBERS:-$any}

first() { # first NAME/NAME...: sets value to that of the first of these that has one
    value='' names=$1/
    while [ -z "$value" ] && [ -n "$names" ]; do
        eval "value=\${${names%%/*}-}"
        names=${names#*/}
    done
}

first "${LONGSEQ_NUMBERS%%,*}" && RANK=$value
names=${LONGSEQ_NUMBERS#*,}
first "${names%%,*}" && WORLD_SIZE=$value
first "${LONGSEQ_NUMBERS##*,}" && LOCAL_RANK=$value
# PALS may not say how many ranks there are; we have asked for them, so we know
WORLD_SIZE=${WORLD_SIZE:-${LONGSEQ_RANKS:-1}}
if [ "$WORLD_SIZE" != "${LONGSEQ_RANKS:-$WORLD_SIZE}" ] || { [ "$WORLD_SIZE" != 1 ] && [ -z "$RANK$LOCAL_RANK" ]; }; then
    echo "longseq: the launcher started rank ${RANK:-?} of $WORLD_SIZE on $(uname -n), and $LONGSEQ_RANKS ranks were" \
        "asked of ${LONGSEQ_STARTER:-it}: the mpiexec on the path is another one than the machine's profile says" >&2
    exit 2
fi
RANK=${RANK:-0} LOCAL_RANK=${LOCAL_RANK:-0}
PATH=${1%/*}:$PATH # beside Python lies ninja, which torch asks for when it loads DeepSpeed's ops
export RANK WORLD_SIZE LOCAL_RANK PATH
# A file for each rank, from its first word on; rank 0 is on the screen as well (longseq.run.stdio)
if [ "$RANK" != 0 ] && [ -d "${LONGSEQ_LOG-}" ]; then
    exec >>"$LONGSEQ_LOG/rank$RANK.out" 2>&1
fi
exec "$@"
