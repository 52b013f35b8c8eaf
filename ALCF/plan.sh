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

longseq_typed() { # sets REPLY to what this call sets beside layout and memory, as one types it
    local row name type marks typed=''
    # On any number of GPUs it shall be this network; a suggested line sets the others of these itself
    local named=' MODEL_SIZE_KEY NGPUS MPSIZE SPSIZE RINGSIZE SP_TYPE USE_SEQUENCE_PARALLEL SEQ_LEN'
    named+=' MICRO_BATCH ZERO_STAGE OFFLOAD_DEVICE OFFLOAD_PARAM USE_ACTIVATION_CHECKPOINTING '
    longseq_key_to_keep
    [[ $LONGSEQ_NAMED == custom ]] || REPLY=$LONGSEQ_NAMED
    [[ -z $REPLY ]] || typed="MODEL_SIZE_KEY=$REPLY "
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name type _ _ marks _ <<<"$row"
        [[ -n ${!name-} && ! " $marks " =~ ' '(once|here|secret)' ' ]] || continue
        longseq_quote "${!name}"
        if [[ $type == same\ * || $type == older\ * ]]; then
            name=${type#* } name=${name%%=*}
            longseq_quote "${LONGSEQ_VALUE[$name]}"
        fi
        [[ $named != *" $name "* ]] || continue
        named+="$name "
        typed+="$name=$REPLY "
    done
    REPLY=${typed% }
}

longseq_plan() { # longseq_plan show|check [EXTRA...]: prints what PLAN asks for, or a line; refuses what needs far too much
    local python=$LONGSEQ_BASE_PYTHON plan=${LONGSEQ_VALUE[PLAN]} options=() REPLY
    if [[ $LONGSEQ_DEVICE != cpu ]]; then
        [[ -n $LONGSEQ_GPU ]] || longseq_refuse "PLAN=$plan: which GPUs $LONGSEQ_MACHINE has is in no profile:\
 ./longseq.sh plan --gpu NAME -- ARGUMENTS plans for one" || return
        options+=(--machine "$LONGSEQ_MACHINE")
    elif [[ $plan == [sl]* ]]; then
        longseq_refuse "PLAN=$plan: ways are sought on GPUs, and there are none here: name a machine, as MACHINE=polaris\
 NHOSTS=8, or use ./longseq.sh plan --gpu NAME --gpus N --$plan -- ARGUMENTS" || return
    fi
    [[ $1 != check ]] || options+=(--check)
    if [[ $plan == [sl]* ]]; then
        longseq_typed
        options+=("--$plan" --with "$REPLY")
    fi
    longseq_args_to_plan
    # As in longseq.sh: finished once is enough
    [[ ! -x $LONGSEQ_PYTHON || ! -f $LONGSEQ_VENV/installed-base.txt ]] || python=$LONGSEQ_PYTHON
    PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
        "$python" -m longseq plan ${options[@]+"${options[@]}"} --gpus "$LONGSEQ_RANKS" -- ${LONGSEQ_TO_PLAN[@]+"${LONGSEQ_TO_PLAN[@]}"} || return
    [[ $plan != [sl]* || $# == 1 ]] ||
        printf '\nBehind -- of that line goes what this call has there, but for flags of layout, memory and kernel.\n'
}
