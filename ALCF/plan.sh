# shellcheck shell=bash
# Sourced: what the run of LONGSEQ_ARGS needs on the machine's GPUs, by longseq plan (docs/plan.md). Needs setup.sh, args.sh.

longseq_only_plans() { # is a plan all that this call is for?
    [[ ${LONGSEQ_VALUE[PLAN]} == [1sl]* ]]
}

longseq_seeks_layout() { # is a layout, or a length, still to be found?
    [[ ${LONGSEQ_VALUE[PLAN]} == [sl]* ]]
}

longseq_args_to_plan() { # sets LONGSEQ_TO_PLAN; a batch that follows from a layout goes where layouts are sought
    local at
    LONGSEQ_TO_PLAN=("${LONGSEQ_ARGS[@]}")
    longseq_seeks_layout || return 0
    [[ -z ${GLOBAL_BATCH-}${GLOBAL_BATCH_SIZE-}${GAS-}${GRADIENT_ACCUMULATION_STEPS-} ]] || return 0
    for ((at = 0; at < ${#LONGSEQ_TO_PLAN[@]}; at++)); do
        [[ ${LONGSEQ_TO_PLAN[at]} == --global-batch-size ]] || continue
        unset 'LONGSEQ_TO_PLAN[at]' 'LONGSEQ_TO_PLAN[at+1]'
        break
    done
}

longseq_network_in_words() { # prints what gives the network that was planned, on any number of GPUs
    if [[ $LONGSEQ_NAMED != custom ]]; then
        printf 'MODEL_SIZE_KEY=%s' "$LONGSEQ_NAMED"
    elif [[ -n $LONGSEQ_NETWORK ]]; then
        printf LOAD=%s "${LONGSEQ_VALUE[LOAD]}"
    else
        printf 'MODEL_SIZE_KEY=%s and what is behind --' "${LONGSEQ_VALUE[MODEL_SIZE_KEY]}"
    fi
}

longseq_plan() { # longseq_plan show|check: prints what PLAN asks for, or a line; refuses what needs far too much
    local python=$LONGSEQ_BASE_PYTHON plan=${LONGSEQ_VALUE[PLAN]} options=()
    if [[ $LONGSEQ_DEVICE != cpu ]]; then
        [[ -n $LONGSEQ_GPU ]] || longseq_refuse "PLAN=$plan: which GPUs $LONGSEQ_MACHINE has is in no profile:\
 ./longseq.sh plan --gpu NAME -- ARGUMENTS plans for one" || return
        options+=(--machine "$LONGSEQ_MACHINE")
    elif [[ $plan == [sl]* ]]; then
        longseq_refuse "PLAN=$plan: ways are sought on GPUs, and there are none here: name a machine, as MACHINE=polaris\
 NHOSTS=8, or use ./longseq.sh plan --gpu NAME --gpus N --$plan -- ARGUMENTS" || return
    fi
    [[ $1 != check ]] || options+=(--check)
    [[ $plan != [sl]* ]] || options+=("--$plan")
    longseq_args_to_plan
    # As in longseq.sh: finished once is enough
    [[ ! -x $LONGSEQ_PYTHON || ! -f $LONGSEQ_VENV/installed-base.txt ]] || python=$LONGSEQ_PYTHON
    PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
        "$python" -m longseq plan ${options[@]+"${options[@]}"} --gpus "$LONGSEQ_RANKS" -- ${LONGSEQ_TO_PLAN[@]+"${LONGSEQ_TO_PLAN[@]}"} || return
    [[ $plan != [sl]* ]] || printf '\nThe line goes with what else this call sets: %s, DTYPE=%s, ...\n' \
        "$(longseq_network_in_words)" "${LONGSEQ_VALUE[DTYPE]}"
}
