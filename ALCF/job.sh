#!/usr/bin/env bash
# What a submitted job runs (submit.sh): training with the frozen settings, from the last checkpoint there is.
#
# Usage: job.sh FOLDER   the job's folder; the output goes to FOLDER/output.txt as well
#
# The jobs of a chain, and one that the scheduler starts again, come here one after another. After an end that
# would only repeat (done, a mistake, an error at the same place twice) the reason is in FOLDER/stopped.txt, and
# the jobs after it end at once.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/freeze.sh"

export LONGSEQ_JOB=$1
extra=()
longseq_unfreeze
# shellcheck source=/dev/null # written by submit.sh
source "$LONGSEQ_JOB/settings.sh"
# The frozen code, not that which the environment was made with
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH}

newest_run() { # sets REPLY to the newest run of this job that has a whole checkpoint
    local run whole
    REPLY=
    [[ -f $LONGSEQ_JOB/runs.txt ]] || return 0
    while IFS= read -r -d '' run; do
        for whole in "$run"/checkpoints/step-*[0-9]/manifest.json; do
            [[ ! -e $whole ]] || REPLY=$run
        done
    done <"$LONGSEQ_JOB/runs.txt"
}

progress() { # sets REPLY to the last iteration that any run of this job has finished
    local run line
    REPLY=0
    [[ -f $LONGSEQ_JOB/runs.txt ]] || return 0
    while IFS= read -r -d '' run; do
        [[ -f $run/metrics.jsonl ]] || continue
        line=$(tail -n 1 -- "$run/metrics.jsonl")
        [[ $line =~ \"iteration\":\ *([0-9]+) ]] && ((BASH_REMATCH[1] > REPLY)) && REPLY=${BASH_REMATCH[1]}
    done <"$LONGSEQ_JOB/runs.txt"
    return 0
}

stop() { # stop REASON: no job of this chain after this one does anything
    printf '%s\n' "$1" >"$LONGSEQ_JOB/stopped.txt"
    longseq_say "no further job of this chain will train: $1"
}

judge() { # judge STATUS BEFORE: would the next job only do the same again?
    local before=$2 last
    progress
    case $1 in
        0) stop 'training is done' ;;
        75) rm -f -- "$LONGSEQ_JOB/failed-at.txt" ;;
        2) stop 'there is a mistake in its settings (exit code 2)' ;;
        1) ((REPLY > before)) || stop "it failed (exit code 1) before its first iteration, and would again" ;;
    esac
    [[ ! -e $LONGSEQ_JOB/stopped.txt && $1 != 75 ]] || return 0
    last=$(cat -- "$LONGSEQ_JOB/failed-at.txt" 2>/dev/null) || last=
    [[ $last != "$REPLY" ]] || stop "it failed twice after iteration $REPLY (exit code $1)"
    printf '%s\n' "$REPLY" >"$LONGSEQ_JOB/failed-at.txt"
}

exec > >(exec tee -a -- "$LONGSEQ_JOB/output.txt") 2>&1
if [[ -e $LONGSEQ_JOB/stopped.txt ]]; then
    longseq_say "nothing to do: $(cat -- "$LONGSEQ_JOB/stopped.txt")"
    longseq_say "job ends with exit code 0"
    exit 0
fi
newest_run
if [[ -n $REPLY ]]; then
    export LOAD=$REPLY
    unset RESUME
fi
progress
before=$REPLY status=0
longseq_supervise "$LONGSEQ_ROOT/ALCF/train-gpt3.sh" -- ${extra[@]+"${extra[@]}"} || status=$?
judge "$status" "$before"
longseq_say "job ends with exit code $status"
# Cobalt holds what depends on a job that "failed", and stopping early is no failure of a chain
[[ $status != 75 || -z ${COBALT_JOBID-} ]] || status=0
exit "$status"
