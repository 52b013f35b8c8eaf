# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Sophia (ALCF): the 24 DGX nodes of ThetaGPU, 8 A100 each, under PBS with Open MPI. Facts are from the
# site's documentation, but those marked U.

longseq_profile_recognise() { # U: which of its names are login nodes
    case $LONGSEQ_HOSTNAME in
        sophia-login-*) LONGSEQ_NODE=login ;;
        sophia-gpu-[0-9]* | sophia-[0-9]*) LONGSEQ_NODE=compute ;;
        *) return 1 ;;
    esac
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=pbs LONGSEQ_MPI=openmpi LONGSEQ_GPUS_PER_HOST=8
    LONGSEQ_FABRIC=.lab.alcf.anl.gov
    LONGSEQ_PROXY=http://proxy.alcf.anl.gov:3128 # U
    LONGSEQ_SCRATCH=/raid/scratch                # U: as on ThetaGPU
    LONGSEQ_QUEUE=by-node LONGSEQ_NEEDS_PROJECT=1
    LONGSEQ_FILESYSTEMS=home:eagle # U: the names
    # by-gpu counts GPUs (1, 2, 4 or 8) in place of nodes; U: its longest time
    LONGSEQ_QUEUES=("by-node 1-8 24:00:00" "by-gpu 1-8gpus 24:00:00")
    LONGSEQ_TRANSPORT=ib LONGSEQ_LEAST_BANDWIDTH=40 # U: a fifth of its cards
    # For plans: DGX A100: 8 cards of 200 Gb/s; Eagle's 650 GB/s
    LONGSEQ_GPU=a100-40 LONGSEQ_NODE_NETWORK=200 LONGSEQ_HOST_GIB=1024 LONGSEQ_FILES=650
}

longseq_profile_modules() { # U
    module use /soft/modulefiles && module load conda && conda activate base
}
