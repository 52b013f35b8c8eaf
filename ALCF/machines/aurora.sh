# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# Aurora (ALCF): 6 Intel GPUs of 2 tiles a node, a rank for each tile, PBS, Cray PALS. Facts are from the
# site's documentation, but those marked U. Our trainer computes on CUDA GPUs and CPUs only, so a run
# here is refused before its ranks start; DS_ACCELERATOR=cpu trains on the host's cores.

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
    # For plans: 8 cards of 200 Gb/s; U: Flare as Eagle
    LONGSEQ_GPU=max1550 LONGSEQ_NODE_NETWORK=200 LONGSEQ_HOST_GIB=1024 LONGSEQ_FILES=650
}

longseq_profile_modules() { # U
    module load frameworks
}
