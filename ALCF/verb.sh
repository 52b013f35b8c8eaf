# shellcheck shell=bash
# Sourced by use.sh and submit.sh: what is asked of a trained network, by words and by variables. Needs setup.sh, args.sh.
# Sets LONGSEQ_ARGS as args.sh does.

longseq_check_verb() { # longseq_check_verb [VERB ARGUMENT...]: refuses what cannot be started on ranks
    local word
    case ${1-} in
        score | generate | embed | evaluate) ;;
        *) longseq_refuse "${1:-no verb}: give one of score, generate, embed, evaluate, and the run: ./ALCF/use.sh --help" || return ;;
    esac
    for word in "${@:2}"; do
        [[ $word != - ]] || longseq_refuse "standard input (-) does not reach the ranks: name a file that all of them can read" || return
    done
}

longseq_check_verb_of_job() { # longseq_check_verb_of_job VERB ARGUMENT...: refuses what nobody would find again
    [[ $1 != score && $1 != generate ]] || [[ " ${*:2} " == *" --output"[\ =]* ]] ||
        longseq_refuse "$1 in a job: give --output FILE, as what it prints would stand among all that the job says"
}

longseq_refuse_idle() { # refuses the variables of training that say nothing here, all that are set at once
    local name row marks command=use.sh idle=() without='' named='' REPLY
    local acting=" NGPUS NGPU_PER_HOST NHOSTS HOSTFILE SP_TYPE MPSIZE SPSIZE RINGSIZE USE_SEQUENCE_PARALLEL DTYPE\
 OUTPUT_DIR DRY_RUN MACHINE PYTHON DS_ACCELERATOR LAUNCH_ARGS SITE_MODULES SITE_NCCL OMP_NUM_THREADS MASTER_ADDR\
 MASTER_PORT LONGSEQ_CACHE WANDB_API_KEY WANDB_MODE "
    [[ ${LONGSEQ_TASK-} != use ]] || acting+="WALLTIME "
    # A job was asked at its submission
    [[ -z ${LONGSEQ_JOB-} ]] || return 0
    [[ ${LONGSEQ_TASK-} == use ]] || longseq_tell_of_submission
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name _ _ _ marks _ <<<"$row"
        [[ -z ${!name-} || " $marks " == *' submit '* || $name == USE_FLASH_ATTN* || $acting == *" $name "* ]] || idle+=("$name")
    done
    ((${#idle[@]})) || return 0
    [[ ${LONGSEQ_TASK-} != use ]] || command='submit.sh --use'
    for name in "${idle[@]}"; do
        named+="${named:+, }$name=${!name}" without+=" -u $name"
    done
    ((${#idle[@]} == 1)) && REPLY='is of training and says' || REPLY='are of training and say'
    longseq_refuse "$named $REPLY nothing to ./ALCF/use.sh: unset all of it for this command: env$without ./ALCF/$command ..."
}

longseq_verb_args() { # longseq_verb_args VERB: sets LONGSEQ_ARGS: the layout and how it computes, as flags of the verb
    local row name flags word kernel only=
    longseq_check_names || return
    longseq_read_variables || return
    longseq_refuse_idle || return
    kernel=${LONGSEQ_VALUE[USE_FLASH_ATTN]}
    longseq_share_out || return
    # One token at a time is no sequence to split: where nobody asks for that, tensor-parallel ranks are alone
    [[ $1 != generate ]] || : "${LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]:=0}"
    longseq_complete
    LONGSEQ_ARGS=(--device "$LONGSEQ_DEVICE")
    for name in MPSIZE SPSIZE RINGSIZE USE_FLASH_ATTN; do
        longseq_row "$name" && row=${REPLY#*|*|*|} flags=${row%%|*}
        [[ $name == USE_FLASH_ATTN ]] || LONGSEQ_ARGS+=("$flags" "${LONGSEQ_VALUE[$name]}")
    done
    for word in $flags; do # "V: FLAG ...", those of the kernel
        [[ $word != *: ]] || only=$word
        [[ $word == *: || $only != "$kernel:" ]] || LONGSEQ_ARGS+=("$word")
    done
    ((! ${LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]:-0})) || LONGSEQ_ARGS+=(--sequence-parallel)
    case ${LONGSEQ_VALUE[DTYPE]} in
        bf16) LONGSEQ_ARGS+=(--bf16) ;;
        fp16) longseq_refuse "DTYPE=fp16 is for training: give fp32 or bf16" ;;
    esac
}

longseq_look_over() { # longseq_look_over VERB ARGUMENT...: fails as the verb would where it refuses, before a rank is there
    local from=$PWD
    (cd -- "$LONGSEQ_ROOT" && LONGSEQ_FROM=$from LONGSEQ_RANKS=$LONGSEQ_RANKS PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
        PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} "$LONGSEQ_PYTHON" -m longseq "$1" --dry-run "${LONGSEQ_ARGS[@]}" "${@:2}")
}
