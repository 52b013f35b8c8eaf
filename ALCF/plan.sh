# shellcheck shell=bash
# Sourced: what the run of LONGSEQ_ARGS needs on the machine's GPUs, by longseq plan (docs/plan.md). Needs setup.sh, args.sh.

longseq_plan() { # longseq_plan show|check: prints the plan, or a line of it; refuses what needs far too much
    local python=$LONGSEQ_BASE_PYTHON where=()
    [[ $1 == show ]] || where=(--check)
    if [[ $LONGSEQ_DEVICE != cpu ]]; then
        [[ -n $LONGSEQ_GPU ]] || longseq_refuse "PLAN=1: which GPUs $LONGSEQ_MACHINE has is in no profile:\
 ./longseq.sh plan --gpu NAME -- ARGUMENTS plans for one" || return
        where+=(--machine "$LONGSEQ_MACHINE")
    fi
    # As in longseq.sh: finished once is enough
    [[ ! -x $LONGSEQ_PYTHON || ! -f $LONGSEQ_VENV/installed-base.txt ]] || python=$LONGSEQ_PYTHON
    PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 "$python" -m longseq plan \
        ${where[@]+"${where[@]}"} --gpus "$LONGSEQ_RANKS" -- "${LONGSEQ_ARGS[@]}"
}
