# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Sirius (ALCF): the small test system beside Polaris, with nodes of the same kind. All but the name of
# its network (from the site's documentation) is U, unverified, and taken to be as on Polaris.

longseq_profile_recognise() { # its compute nodes are named as those of Polaris; PBS says where from (U)
    case $LONGSEQ_HOSTNAME in
        sirius-login-* | sirius-[0-9]*) LONGSEQ_NODE=login ;;
        x3*) [[ ${PBS_O_HOST-} == sirius* ]] && LONGSEQ_NODE=compute ;;
        *) return 1 ;;
    esac
}

longseq_profile_facts() {
    LONGSEQ_SCHEDULER=pbs LONGSEQ_MPI=pals LONGSEQ_GPUS_PER_HOST=4
    LONGSEQ_BIND=(--depth=8 --cpu-bind depth)
    LONGSEQ_GPU_ORDER=3,2,1,0
    LONGSEQ_FABRIC=.hsn.cm.sirius.alcf.anl.gov
    LONGSEQ_PROXY=http://proxy.alcf.anl.gov:3128
    LONGSEQ_SCRATCH=/local/scratch
    LONGSEQ_NEEDS_PROJECT=1 LONGSEQ_FILESYSTEMS=home # no queues are known here, so none is checked
    LONGSEQ_SUBMIT=(-k doe -l place=scatter)
    LONGSEQ_NCCL=(
        NCCL_NET_GDR_LEVEL=PHB NCCL_CROSS_NIC=1 NCCL_COLLNET_ENABLE=1 "NCCL_NET=AWS Libfabric"
        FI_CXI_DISABLE_HOST_REGISTER=1 FI_MR_CACHE_MONITOR=userfaultfd FI_CXI_DEFAULT_CQ_SIZE=131072
    )
    LONGSEQ_NCCL_LIBRARIES=(/soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib /soft/libraries/hwloc/lib)
    LONGSEQ_TRANSPORT=libfabric LONGSEQ_LEAST_BANDWIDTH=10
    # For plans: U: as Polaris
    LONGSEQ_GPU=a100-40 LONGSEQ_NODE_NETWORK=50 LONGSEQ_HOST_GIB=512 LONGSEQ_FILES=650
}

longseq_profile_modules() {
    module use /soft/modulefiles && module load conda && conda activate base
}
