# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# ThetaGPU (ALCF, retired): 22 DGX nodes of 8 A100 with 40 GB and 2 with 80 GB, Cobalt, Open MPI. Facts are
# from the site's documentation, but those marked U.

longseq_profile_recognise() { # its service nodes, where jobs are submitted, are thetagpusn1 and 2
    case $LONGSEQ_HOSTNAME in
        thetagpusn[0-9]*) LONGSEQ_NODE=login ;;
        thetagpu[0-9]*) LONGSEQ_NODE=compute ;;
        *) return 1 ;;
    esac
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=cobalt LONGSEQ_MPI=openmpi LONGSEQ_GPUS_PER_HOST=8
    LONGSEQ_PER_HOST_FLAG=-npernode
    LONGSEQ_PROXY=http://theta-proxy.tmi.alcf.anl.gov:3128
    LONGSEQ_SCRATCH=/raid/scratch
    LONGSEQ_QUEUE=full-node LONGSEQ_NEEDS_PROJECT=1
    LONGSEQ_FILESYSTEMS=home,eagle # U: the names; that they must be given was so in its last years
    LONGSEQ_LEAST_TIME=0:05:00
    LONGSEQ_QUEUES=( # U: how many nodes a job in debug-node may have
        "full-node 1-24 24:00:00" "debug-node 1-24 24:00:00"
        "single-gpu 1-1gpus 24:00:00" "debug-gpu 1-1gpus 24:00:00"
    )
    LONGSEQ_TRANSPORT=ib LONGSEQ_LEAST_BANDWIDTH=40 # U: a fifth of its cards
    # For plans: DGX A100: 8 cards of 200 Gb/s; Grand's and Eagle's 650 GB/s
    LONGSEQ_GPU=a100-40 LONGSEQ_NODE_NETWORK=200 LONGSEQ_HOST_GIB=1024 LONGSEQ_FILES=650
}

longseq_profile_modules() {
    module load conda/2023-01-11 && conda activate base
}
