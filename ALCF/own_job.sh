# shellcheck shell=bash
# Sourced by setup.sh: a shell by ssh in a node of one's own job has none of the job's variables. Then the scheduler is
# asked, and what the job's own shell has is set: SLURM_JOB_ID and SLURM_JOB_NODELIST, or PBS_JOBID and PBS_NODEFILE.
#   LONGSEQ_JOB_HOSTS     array: that job's hosts, where PBS has no file of them on this node
#   LONGSEQ_JOB_UNKNOWN   1: the scheduler did not answer

longseq_own_jobs() { # prints "ID NODES" of the user's running jobs on this host, or of the one that is named, a line each
    # … and "end" after them where the scheduler has answered
    local user
    user=$(id -un) || return
    if [[ $LONGSEQ_SCHEDULER == slurm ]]; then
        longseq_own_jobs_slurm "$user"
    else
        longseq_own_jobs_pbs "$user"
    fi && echo end
}

longseq_own_jobs_slurm() { # longseq_own_jobs_slurm USER
    local which=--nodelist=${LONGSEQ_HOSTNAME%%.*} status=0
    [[ -z ${SLURM_JOB_ID-} ]] || which=--jobs=$SLURM_JOB_ID
    timeout 20 squeue -h -u "$1" -t RUNNING -o '%i %N' "$which" 2>/dev/null || status=$?
    ((status)) || return 0
    # It fails for a host that is no node, and for a job that is over: then it answers without them
    ((status != 124)) && timeout 20 squeue -h -u "$1" -t RUNNING -o %i >/dev/null 2>&1
}

longseq_own_jobs_pbs() { # longseq_own_jobs_pbs USER
    local host=${LONGSEQ_HOSTNAME%%.*} id ids=${PBS_JOBID-} text line name hosts
    [[ -n $ids ]] || ids=$(timeout 20 qselect -u "$1" -s R 2>/dev/null) || return
    for id in $ids; do
        if ! text=$(timeout 20 qstat -f "$id" 2>/dev/null); then
            # It fails for a job that has ended meanwhile: then that one is no longer listed
            text=$(timeout 20 qselect -u "$1" -s R 2>/dev/null) || return
            [[ $'\n'$text$'\n' != *$'\n'"$id"$'\n'* ]] || return
            continue
        fi
        hosts=
        # exec_host = x1/0*64+x2/0*64, broken into lines that begin with a tab
        line=$(sed -n '/^ *exec_host = /,/^ *[A-Za-z_.]* = /{
            s/^ *exec_host = //; / = /d; s/^[[:space:]]*//; p; }' <<<"$text" | tr -d '\n')
        for name in ${line//+/ }; do
            name=${name%%/*}
            [[ " $hosts " == *" $name "* ]] || hosts+=${hosts:+ }$name
        done
        [[ " $hosts " != *" $host "* ]] || printf '%s %s\n' "$id" "$hosts"
    done
}

longseq_find_job() { # in a shell by ssh, with no job of its own: takes the one that runs on this host
    local lines=() id hosts letters='[][A-Za-z0-9._ ,-]'
    LONGSEQ_JOB_HOSTS=() LONGSEQ_JOB_UNKNOWN=
    [[ -n ${SSH_CONNECTION-} && ($LONGSEQ_SCHEDULER == slurm || $LONGSEQ_SCHEDULER == pbs) ]] || return 0
    ! longseq_in_allocation || return 0
    if [[ $LONGSEQ_SCHEDULER == slurm ]]; then
        command -v squeue >/dev/null || return 0
    else
        command -v qselect >/dev/null || return 0
    fi
    mapfile -t lines < <(longseq_own_jobs)
    if [[ ${#lines[@]} == 0 || ${lines[${#lines[@]} - 1]} != end ]]; then
        # shellcheck disable=SC2034 # hosts.sh and train-gpt3.sh refuse then; status.sh and others need no hosts
        LONGSEQ_JOB_UNKNOWN=1
        return 0
    fi
    unset "lines[$((${#lines[@]} - 1))]"
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

longseq_refuse_unknown() { # where the scheduler does not say whether this host is in a job: ranks elsewhere, a job in a job
    local needed='PBS_JOBID and PBS_NODEFILE'
    [[ $LONGSEQ_SCHEDULER != slurm ]] || needed='SLURM_JOB_ID and SLURM_JOB_NODELIST'
    longseq_refuse "the scheduler does not say whether $LONGSEQ_HOSTNAME is in a job of yours: in a job set $needed as the\
 job has them, or HOSTFILE; to submit one call ./ALCF/submit.sh"
}
