# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Frontier (OLCF): 4 AMD MI250X a node, which are 8 GPUs of 64 GB, Slurm. What is marked U is unverified.
# torch calls AMD's GPUs cuda as well; install.sh takes torch's build for the ROCm of the module. Never run.

longseq_profile_recognise() { # U: the name that Lmod has there
    [[ $LONGSEQ_HOSTNAME == frontier[0-9]* || ${LMOD_SYSTEM_NAME-} == frontier ]] || return 1
    LONGSEQ_NODE=compute
    [[ $LONGSEQ_HOSTNAME != login* ]] || LONGSEQ_NODE=login # U
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=slurm LONGSEQ_MPI=srun LONGSEQ_GPUS_PER_HOST=8
    LONGSEQ_BIND=(--cpus-per-task=7) # 56 of its 64 cores are for programs, 7 of each of the eight L3 caches
    # The GPUs beside those in their order, as a rank each lands there (the site's page: hardware threads 0-7: GPU 4)
    LONGSEQ_GPU_ORDER=4,5,2,3,6,7,0,1
    LONGSEQ_PROXY=http://proxy.ccs.ornl.gov:3128 # U
    LONGSEQ_SCRATCH=/tmp                         # U
    LONGSEQ_QUEUE=batch LONGSEQ_QUEUE_FLAG=--partition LONGSEQ_NEEDS_PROJECT=1
    LONGSEQ_QUEUES=( # U
        "batch 1-91 2:00:00" "batch 92-183 6:00:00" "batch 184-5644 12:00:00" "batch 5645-9408 24:00:00"
        "extended 1-64 24:00:00"
    )
    # More comes with its module rccl-net-plugin, without which RCCL talks over TCP; that wants the option of Slurm
    LONGSEQ_NCCL=(
        NCCL_CROSS_NIC=1 NCCL_NET_GDR_LEVEL=PHB "NCCL_SOCKET_IFNAME=hsn0,hsn1,hsn2,hsn3"
        FI_MR_CACHE_MONITOR=kdreg2 FI_CXI_DISABLE_HOST_REGISTER=1 FI_CXI_DEFAULT_CQ_SIZE=131072
    )
    LONGSEQ_SUBMIT=(--network=disable_rdzv_get)
    LONGSEQ_TRANSPORT=libfabric LONGSEQ_LEAST_BANDWIDTH=20 # U: a fifth of its cards
    # For plans: 4 cards of 200 Gb/s; Orion's disks, where files of more than 8 MB go
    LONGSEQ_GPU=mi250x LONGSEQ_NODE_NETWORK=100 LONGSEQ_HOST_GIB=512 LONGSEQ_FILES=4600
}

longseq_profile_modules() { # U: that the plugin suits the RCCL of torch's wheel
    module load rocm rccl-net-plugin miniforge3
}
