#!/usr/bin/env bash
# What a submitted job runs (submit.sh): training with the frozen settings, from the last checkpoint there is; a bench,
# which goes on by itself; or a verb of use.sh.
#
# Usage: job.sh FOLDER   the job's folder; the output goes to FOLDER/output.txt as well
#
# The jobs of a chain, and one that the scheduler starts again, come here one after another; what each leaves for the
# next is in chain.sh. After an end that would only repeat (done, a mistake, an error at the same place twice) the
# reason is in FOLDER/stopped.txt, and the jobs after it end at once.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/running.sh"
source "$LONGSEQ_ROOT/ALCF/freeze.sh"

[[ -d ${1-} ]] || longseq_refuse "job.sh is what a scheduler starts, with the job's folder: ./ALCF/submit.sh makes one"
export LONGSEQ_JOB=$1
extra=() task=train from=
longseq_unfreeze
# shellcheck source=/dev/null # written by submit.sh
source "$LONGSEQ_JOB/settings.sh"
# The frozen code, not that which the environment was made with
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH}

exec > >(longseq_keep "$LONGSEQ_JOB/output.txt") 2>&1
# A scheduler may kill what is left once this ends, and the last lines say how it ended
keeper=${!-}
guard=
trap '[[ -z $guard ]] || kill -TERM "$guard" 2>/dev/null; longseq_wait_kept "$keeper"' EXIT
if [[ -e $LONGSEQ_JOB/stopped.txt ]]; then
    longseq_say "nothing to do: $(cat -- "$LONGSEQ_JOB/stopped.txt")"
    longseq_say "job ends with exit code 0"
    exit 0
fi
if [[ $task == bench ]]; then
    output=$OUTPUT_DIR/bench status=0
    # Its runs are no links of a chain, and it says itself where they go
    unset LONGSEQ_JOB OUTPUT_DIR
    longseq_supervise "$LONGSEQ_ROOT/ALCF/bench.sh" --output "$output" ${extra[@]+"${extra[@]}"} || status=$?
    longseq_say "job ends with exit code $status"
    exit "$status"
fi
if [[ $task == use ]]; then
    status=0
    export OUTPUT_DIR=$LONGSEQ_JOB # what its ranks print, should they fail
    cd -- "$from" 2>/dev/null || longseq_refuse "$from, where this job was submitted, cannot be entered on $HOSTNAME:\
 submit from a folder that the job's hosts have" || status=$?
    ((status)) || longseq_supervise "$LONGSEQ_ROOT/ALCF/use.sh" "${extra[@]}" || status=$?
    longseq_say "job ends with exit code $status"
    exit "$status"
fi
longseq_guard() { # has a host of a Slurm job watch over the first one, where the script runs (guard.sh)
    local LONGSEQ_HOSTS=()
    [[ -n ${SLURM_JOB_ID-} && ${SLURM_JOB_NUM_NODES:-1} -gt 1 && -z ${SLURM_STEP_ID-} ]] || return 0
    longseq_expand_nodelist "${SLURM_JOB_NODELIST-}" && ((${#LONGSEQ_HOSTS[@]} > 1)) || return 0
    # What the job was asked for is not what this needs
    env -u SLURM_NTASKS_PER_NODE -u SLURM_GPUS_PER_NODE -u SLURM_GPUS -u SLURM_CPUS_PER_TASK -u SLURM_NTASKS \
        srun --overlap --nodes=1 --ntasks=1 --nodelist="${LONGSEQ_HOSTS[1]}" --mpi=none --mem=0 \
        /bin/sh "$LONGSEQ_ROOT/ALCF/guard.sh" "$SLURM_JOB_ID" "${LONGSEQ_HOSTS[0]}" \
        >"$LONGSEQ_JOB/guard.txt" 2>&1 </dev/null &
    guard=$!
}

train() { # from the last checkpoint; sets status, and what longseq_judge_end is told
    longseq_newest_run
    if [[ -n $REPLY ]]; then
        export LOAD=$REPLY
        unset RESUME
    fi
    longseq_last_line global-batch.txt
    if [[ -n $REPLY ]]; then
        export GLOBAL_BATCH=$REPLY
        unset GAS GRADIENT_ACCUMULATION_STEPS
    fi
    longseq_count_runs
    before=$REPLY status=0
    longseq_last_line bad-hosts.txt
    lost=$REPLY
    longseq_supervise "$LONGSEQ_ROOT/ALCF/train-gpt3.sh" -- ${extra[@]+"${extra[@]}"} || status=$?
    ! longseq_ended_as_told "$status" || status=75 # it was told so early that it could not say so
}

# shellcheck disable=SC2034 # running.sh reads it, for the job's end
declare -A LONGSEQ_VALUE=([WALLTIME]=${WALLTIME-})
longseq_guard
train
waits=0 # not for ever: where a log has room and a checkpoint has none, it would be the same each time
while longseq_lacked_room "$status" && ((++waits <= 3)) && longseq_await_room; do train; done
longseq_judge_end "$status" "$before" "$lost"
longseq_exclude
longseq_say "job ends with exit code $status"
# Cobalt holds what depends on a job that "failed", and stopping early is no failure of a chain
[[ $status != 75 || -z ${COBALT_JOBID-} ]] || status=0
exit "$status"
