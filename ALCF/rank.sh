#!/bin/sh
# What the launcher starts for every rank: gives the ranks' numbers the names that torch and
# DeepSpeed read, whichever launcher it was, and becomes the program.
#
# LONGSEQ_STARTER names the launcher: inside a job of Slurm's, say, SLURM_PROCID is there as well and
# means something else. Without it the first numbers that are found count.
case ${LONGSEQ_STARTER-} in
    openmpi) RANK=${OMPI_COMM_WORLD_RANK-} WORLD_SIZE=${OMPI_COMM_WORLD_SIZE-} LOCAL_RANK=${OMPI_COMM_WORLD_LOCAL_RANK-} ;;
    srun) RANK=${SLURM_PROCID-} WORLD_SIZE=${SLURM_NTASKS-} LOCAL_RANK=${SLURM_LOCALID-} ;;
    pals) RANK=${PALS_RANKID:-${PMI_RANK-}} WORLD_SIZE=${PALS_SIZE:-${PMI_SIZE-}} LOCAL_RANK=${PALS_LOCAL_RANKID:-${PMI_LOCAL_RANK-}} ;;
    *)
        RANK=${PMI_RANK:-${PALS_RANKID:-${OMPI_COMM_WORLD_RANK:-${SLURM_PROCID-}}}}
        WORLD_SIZE=${PMI_SIZE:-${PALS_SIZE:-${OMPI_COMM_WORLD_SIZE:-${SLURM_NTASKS-}}}}
        LOCAL_RANK=${MPI_LOCALRANKID:-${PALS_LOCAL_RANKID:-${PMI_LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-${SLURM_LOCALID-}}}}}
        ;;
esac
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
