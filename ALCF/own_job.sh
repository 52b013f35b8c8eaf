# shellcheck shell=bash
# Sourced by setup.sh: a shell by ssh in a node of one's own job has none of the job's variables. Then the scheduler is
# asked, and what the job's own shell has is set: SLURM_JOB_ID and SLURM_JOB_NODELIST, or PBS_JOBID and PBS_NODEFILE.
#   LONGSEQ_JOB_HOSTS   array: that job's hosts, where PBS has no file of them on this node

longseq_own_jobs() { # prints "ID NODES" of the user's running jobs on this host, or of the one that is named, a line each
    local host=${LONGSEQ_HOSTNAME%%.*} user id line name hosts
    user=$(id -un) || return
    if [[ $LONGSEQ_SCHEDULER == slurm ]]; then
        local which=--nodelist=$host
        [[ -z ${SLURM_JOB_ID-} ]] || which=--jobs=$SLURM_JOB_ID
        timeout 20 squeue -h -u "$user" -t RUNNING -o '%i %N' "$which" 2>/dev/null
        return
    fi
    for id in ${PBS_JOBID:-$(timeout 20 qselect -u "$user" -s R 2>/dev/null)}; do
        hosts=
        # exec_host = x1/0*64+x2/0*64, broken into lines that begin with a tab
        line=$(timeout 20 qstat -f "$id" 2>/dev/null | sed -n '/^ *exec_host = /,/^ *[A-Za-z_.]* = /{
            s/^ *exec_host = //; / = /d; s/^[[:space:]]*//; p; }' | tr -d '\n')
        for name in ${line//+/ }; do
            name=${name%%/*}
            [[ " $hosts " == *" $name "* ]] || hosts+=${hosts:+ }$name
        done
        [[ " $hosts " == *" $host "* ]] && printf '%s %s\n' "$id" "$hosts"
    done
    return 0
}

longseq_find_job() { # in a shell by ssh, with no job of its own: takes the one that runs on this host
    local lines=() id hosts letters='[][A-Za-z0-9._ ,-]'
    LONGSEQ_JOB_HOSTS=()
    [[ -n ${SSH_CONNECTION-} && ($LONGSEQ_SCHEDULER == slurm || $LONGSEQ_SCHEDULER == pbs) ]] || return 0
    ! longseq_in_allocation || return 0
    if [[ $LONGSEQ_SCHEDULER == slurm ]]; then
        command -v squeue >/dev/null || return 0
    else
        command -v qselect >/dev/null || return 0
    fi
    mapfile -t lines < <(longseq_own_jobs)
    if ((${#lines[@]} == 0)); then
        [[ $LONGSEQ_NODE == login ]] || longseq_say "note: no job of yours runs on $LONGSEQ_HOSTNAME, as far as the scheduler\
 says, so this host alone is used"
        return 0
    fi
    ((${#lines[@]} == 1)) || longseq_refuse "${#lines[@]} jobs of yours run on $LONGSEQ_HOSTNAME (${lines[*]%% *}): say\
 which with $([[ $LONGSEQ_SCHEDULER == slurm ]] && printf SLURM_JOB_ID || printf PBS_JOBID)=" || return
    id=${lines[0]%% *} hosts=${lines[0]#* }
    [[ $id =~ ^[0-9]$letters*$ && $hosts =~ ^[A-Za-z0-9]$letters*$ ]] ||
        longseq_refuse "what the scheduler says of your job on $LONGSEQ_HOSTNAME cannot be read: \"${lines[0]:0:80}\"" || return
    if [[ $LONGSEQ_SCHEDULER == slurm ]]; then
        export SLURM_JOB_ID=$id SLURM_JOB_NODELIST=$hosts
    else
        export PBS_JOBID=$id
        if [[ -r ${PBS_HOME:-/var/spool/pbs}/aux/$id ]]; then
            export PBS_NODEFILE=${PBS_HOME:-/var/spool/pbs}/aux/$id
        else
            # shellcheck disable=SC2034 # hosts.sh reads it
            read -r -a LONGSEQ_JOB_HOSTS <<<"$hosts"
        fi
    fi
    longseq_say "this shell is in a node of your job $id: its nodes are used ($hosts); HOSTFILE names others"
}
