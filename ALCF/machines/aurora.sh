# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Aurora (ALCF): 6 Intel GPUs of 2 tiles a node, a rank for each tile, PBS, Cray PALS. Facts are from the
# site's documentation, but those marked U. Never run: torch's xpu, through xccl, as the documentation has it.

longseq_profile_recognise() {
    case $LONGSEQ_HOSTNAME in
        aurora-uan-*) LONGSEQ_NODE=login ;;
        x4[0-9][0-9][0-9]c[0-9]*s[0-9]*b[0-9]*) LONGSEQ_NODE=compute ;;
        *) return 1 ;;
    esac
}

longseq_profile_facts() {
    local cores=1-8:9-16:17-24:25-32:33-40:41-48:53-60:61-68:69-76:77-84:85-92:93-100
    LONGSEQ_SCHEDULER=pbs LONGSEQ_MPI=pals LONGSEQ_GPUS_PER_HOST=12 LONGSEQ_ACCELERATOR=xpu
    LONGSEQ_BIND=("--cpu-bind=list:$cores")
    LONGSEQ_FABRIC=.hsn.cm.aurora.alcf.anl.gov
    LONGSEQ_PROXY=http://proxy.alcf.anl.gov:3128 # U
    LONGSEQ_SCRATCH=/tmp                         # U
    LONGSEQ_QUEUE=prod LONGSEQ_NEEDS_PROJECT=1
    LONGSEQ_FILESYSTEMS=home:flare # U: the names
    LONGSEQ_QUEUES=( # U: the times, and the most nodes in prod
        "debug 1-2 1:00:00" "debug-scaling 2-256 1:00:00" "capacity 1-16 168:00:00" "prod 256-10624 24:00:00"
    )
    LONGSEQ_SUBMIT=(-k doe -l place=scatter)
    # The site's page on oneCCL: what it calls mandatory, and of the rest what it says for large runs
    LONGSEQ_NCCL=(
        CCL_PROCESS_LAUNCHER=pmix CCL_ATL_TRANSPORT=mpi CCL_KVS_MODE=mpi CCL_KVS_USE_MPI_RANKS=1
        CCL_KVS_CONNECTION_TIMEOUT=600 CCL_CONFIGURATION=cpu_gpu_dpcpp CCL_CONFIGURATION_PATH=
        CCL_ALLREDUCE=topo CCL_ALLREDUCE_SCALEOUT=rabenseifner CCL_BCAST=double_tree
        CCL_ZE_CACHE_OPEN_IPC_HANDLES_THRESHOLD=1024
        FI_CXI_RX_MATCH_MODE=hybrid FI_CXI_OFLOW_BUF_SIZE=8388608 FI_CXI_DEFAULT_CQ_SIZE=1048576
        FI_CXI_CQ_FILL_PERCENT=30 FI_MR_CACHE_MONITOR=disabled FI_MR_ZE_CACHE_MONITOR_ENABLED=0
    )
    # For plans: 8 cards of 200 Gb/s; U: Flare as Eagle
    LONGSEQ_GPU=max1550 LONGSEQ_NODE_NETWORK=200 LONGSEQ_HOST_GIB=1024 LONGSEQ_FILES=650
}

longseq_profile_modules() { # it brings a torch that knows xpu
    module use /soft/modulefiles && module load frameworks
}
