# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Perlmutter (NERSC): 4 A100 and 64 cores a GPU node, Slurm. Facts are from the site's documentation, but
# those marked U.

longseq_profile_recognise() { # names of hosts (nid*, login*) are not its own
    [[ ${NERSC_HOST-} == perlmutter ]] || return 1
    LONGSEQ_NODE=login
    [[ $LONGSEQ_HOSTNAME != nid* ]] || LONGSEQ_NODE=compute
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=slurm LONGSEQ_MPI=srun LONGSEQ_GPUS_PER_HOST=4
    LONGSEQ_BIND=(--cpus-per-task=32 --cpu-bind=cores) # 128 hardware threads for 4 ranks
    LONGSEQ_GPU_ORDER=3,2,1,0                          # GPU 3 is nearest to core 0, as users measured
    LONGSEQ_SCRATCH=/tmp                               # U
    LONGSEQ_QUEUE=regular LONGSEQ_QUEUE_FLAG=--qos LONGSEQ_NEEDS_PROJECT=1
    # U: all of these limits
    LONGSEQ_QUEUES=("debug 1-8 0:30:00" "regular 1-1792 48:00:00" "preempt 1-128 48:00:00")
    LONGSEQ_RERUN_QUEUES=(preempt)
    LONGSEQ_SUBMIT=(--constraint=gpu --gpus-per-node=4)
    # U. Not NCCL_NET="AWS Libfabric": that plugin comes with a module of the site's NCCL, and torch brings its own
    LONGSEQ_NCCL=(NCCL_NET_GDR_LEVEL=PHB NCCL_CROSS_NIC=1)
    # For plans: 4 cards of 200 Gb/s; 256 of its nodes have 80 GB; U: the scratch's rate
    LONGSEQ_GPU=a100-40 LONGSEQ_NODE_NETWORK=100 LONGSEQ_HOST_GIB=256 LONGSEQ_FILES=4000
}

longseq_profile_modules() { # U: conda's base has Python alone; torch comes with our environment
    module load conda && conda activate base
}
