# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Polaris (ALCF): 4 A100 and 32 cores a node, PBS, Cray PALS, Slingshot. Facts are from the site's
# documentation, but those marked U, which nobody has verified.

longseq_profile_recognise() { # Sirius has compute nodes of the same names
    [[ ${PBS_O_HOST-} != sirius* ]] || return 1
    case $LONGSEQ_HOSTNAME in
        polaris-login-*) LONGSEQ_NODE=login ;;
        x3[0-9][0-9][0-9]c0s*b[01]n0*) LONGSEQ_NODE=compute ;;
        *) return 1 ;;
    esac
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=pbs LONGSEQ_MPI=pals LONGSEQ_GPUS_PER_HOST=4
    LONGSEQ_BIND=(--depth=8 --cpu-bind depth) # the 8 cores that are near its GPU; 16 would go on to another's
    LONGSEQ_GPU_ORDER=3,2,1,0                 # GPU 3 is nearest to core 0 (the site's table of a node)
    LONGSEQ_FABRIC=.hsn.cm.polaris.alcf.anl.gov
    LONGSEQ_PROXY=http://proxy.alcf.anl.gov:3128
    LONGSEQ_SCRATCH=/local/scratch
    LONGSEQ_QUEUE=prod LONGSEQ_NEEDS_PROJECT=1 LONGSEQ_FILESYSTEMS=home:eagle
    LONGSEQ_QUEUES=( # a job in prod that fits none of its execution queues vanishes in silence
        "debug 1-2 1:00:00" "debug-scaling 1-10 1:00:00"
        "prod 10-24 3:00:00" "prod 25-99 6:00:00" "prod 100-496 24:00:00"
        "preemptable 1-10 72:00:00" "capacity 1-4 168:00:00"
    )
    LONGSEQ_RERUN_QUEUES=(preemptable)
    LONGSEQ_SUBMIT=(-k doe -l place=scatter)
    # The site warns that its NCCL plugin can hang Megatron-DeepSpeed; others leave GDR_LEVEL out
    LONGSEQ_NCCL=(
        NCCL_NET_GDR_LEVEL=PHB NCCL_CROSS_NIC=1 NCCL_COLLNET_ENABLE=1 "NCCL_NET=AWS Libfabric"
        FI_CXI_DISABLE_HOST_REGISTER=1 FI_MR_CACHE_MONITOR=userfaultfd FI_CXI_DEFAULT_CQ_SIZE=131072
    )
    LONGSEQ_NCCL_LIBRARIES=(/soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib /soft/libraries/hwloc/lib)
    LONGSEQ_TRANSPORT=libfabric LONGSEQ_LEAST_BANDWIDTH=10 # U: a fifth of its cards
    # For plans: 2 cards of 200 Gb/s, Eagle's 650 GB/s; U: the GPUs' 40 GB
    LONGSEQ_GPU=a100-40 LONGSEQ_NODE_NETWORK=50 LONGSEQ_HOST_GIB=512 LONGSEQ_FILES=650
}

longseq_profile_modules() {
    module use /soft/modulefiles && module load conda && conda activate base
}
