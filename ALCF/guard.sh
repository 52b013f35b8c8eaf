#!/bin/sh
# A step of a Slurm job on another host than its first: ends the job where that one has died.
#
# Usage: guard.sh JOB HOST [SECONDS]   the job's number, its first host, and how often to look (60)
#
# Asked to keep a job that has lost a host (--no-kill), Slurm keeps one too that has lost the host of its script: nothing
# is left in it then, and it would stay until its time is over. So it is ended, and the next job of its chain begins; a
# job that none waits for goes back into the queue, to go on from its last checkpoint.
set -u
[ $# -ge 2 ] || {
    echo "longseq: guard.sh is started by a job, for its other hosts: ./ALCF/submit.sh makes one" >&2
    exit 2
}
job=$1 first=$2

while sleep "${3:-60}"; do
    nodes=$(scontrol -o show job "$job" 2>/dev/null | sed -n 's/.* NodeList=\([^ ]*\) .*/\1/p')
    [ -n "$nodes" ] && [ "$nodes" != '(null)' ] || continue # no answer, or put back already
    hosts=$(scontrol show hostnames "$nodes" 2>/dev/null) && [ -n "$hosts" ] || continue
    printf '%s\n' "$hosts" | grep -qx -e "$first" && continue
    if ! squeue -h -u "$(id -un)" -o %E 2>/dev/null | grep -q -e ":$job\>"; then
        scontrol requeue "$job" && exit
    fi
    scancel "$job"
    exit
done
