# shellcheck shell=bash
# Sourced: the environment's variables → one Megatron-style argument list. Needs setup.sh (and so variables.sh)
# and models.sh. The flags of a variable are in variables.txt; here is what follows from several of them. Sets
#   LONGSEQ_ARGS        array: the argument list
#   LONGSEQ_RUN         the run's folder
#   LONGSEQ_NAMED       the network as the run's folder names it: its key, or custom where it is no row's
#   LONGSEQ_NOTES       array: what was chosen, and why, for the screen; what comes of it with the arguments behind --
#                       Python says (longseq/run/check.py)
#   LONGSEQ_MODEL_FROM  why the network is the one that it is, where nobody has named it; a job and a restart are given it
#   LONGSEQ_INHERITED   array: flags of the run that LOAD goes on from, which no variable makes
# and in LONGSEQ_VALUE the values that follow from others.

longseq_name_network() { # longseq_name_network [EXTRA...]: sets LONGSEQ_NAMED from LONGSEQ_LAYERS, ...; what is in EXTRA wins
    local REPLY word before='' layers=$LONGSEQ_LAYERS hidden=$LONGSEQ_HIDDEN heads=$LONGSEQ_HEADS
    for word in "$@"; do
        [[ $word == *=* ]] && before=${word%%=*} word=${word#*=}
        case $before in
            --num-layers) layers=$word ;;
            --hidden-size) hidden=$word ;;
            --num-attention-heads) heads=$word ;;
        esac
        before=$word
    done
    LONGSEQ_NAMED=${LONGSEQ_VALUE[MODEL_SIZE_KEY]}
    longseq_model "$LONGSEQ_NAMED" || return
    [[ "$layers $hidden $heads" != "$LONGSEQ_LAYERS $LONGSEQ_HIDDEN $LONGSEQ_HEADS" ]] || return 0
    longseq_model_of "$layers" "$hidden" "$heads" || REPLY=custom
    LONGSEQ_NAMED=$REPLY
}

longseq_network_args() { # longseq_network_args [EXTRA...]
    local key=${LONGSEQ_VALUE[MODEL_SIZE_KEY]} why where="a CPU" REPLY network=()
    if [[ $LONGSEQ_DEVICE != cpu ]]; then
        where="$LONGSEQ_RANKS GPU"
        ((LONGSEQ_RANKS == 1)) || where+=s
        ((LONGSEQ_RANKS >= 8)) || where+=", GPT13B from 8 on"
    fi
    if [[ -n ${MODEL_SIZE_KEY-} ]]; then
        why=${LONGSEQ_MODEL_FROM:-MODEL_SIZE_KEY} # a job, and a run that goes on, keep the default of the first ranks
    else
        LONGSEQ_MODEL_FROM="the default on $where; MODEL_SIZE_KEY chooses another"
        why=$LONGSEQ_MODEL_FROM
    fi
    if [[ -z $key ]]; then
        read -r -a network <<<"$LONGSEQ_NETWORK" # of the run that LOAD names
        longseq_model_of ${network[@]+"${network[@]}"} || longseq_default_model "$LONGSEQ_RANKS"
        key=$REPLY LONGSEQ_VALUE[MODEL_SIZE_KEY]=$REPLY
    fi
    longseq_model "$key" || return
    if [[ -n $LONGSEQ_NETWORK ]]; then
        why="as in the run that LOAD goes on from"
        read -r LONGSEQ_LAYERS LONGSEQ_HIDDEN LONGSEQ_HEADS <<<"$LONGSEQ_NETWORK"
    fi
    LONGSEQ_ARGS+=(
        --num-layers "$LONGSEQ_LAYERS" --hidden-size "$LONGSEQ_HIDDEN" --num-attention-heads "$LONGSEQ_HEADS"
    )
    longseq_name_network "$@" || return
    [[ $LONGSEQ_NAMED == "$key" || -n $LONGSEQ_NETWORK ]] || why="its layers, hidden size or heads are given behind --"
    LONGSEQ_NOTES+=("model     $LONGSEQ_NAMED ($why)")
    if [[ " ${LONGSEQ_MODELS[*]%% *} " == *" ${key}_PUBLISHED "* ]]; then
        LONGSEQ_NOTES+=("          the $key of the tables of 2023 is ${key}_PUBLISHED, another network (--list-models)")
    fi
}

longseq_key_to_keep() { # sets REPLY to the MODEL_SIZE_KEY of this network on any number of ranks, empty: LOAD says which
    REPLY=${MODEL_SIZE_KEY-}
    [[ -n ${LONGSEQ_VALUE[LOAD]} ]] || REPLY=${LONGSEQ_VALUE[MODEL_SIZE_KEY]}
}

longseq_inherit() { # takes over what the run that LOAD names was set to, where nothing else is asked for
    local entry name row REPLY load=${LONGSEQ_VALUE[LOAD]} entries=()
    LONGSEQ_INHERITED=() LONGSEQ_NETWORK=
    [[ -n $load ]] || return 0
    while IFS= read -r -d '' entry; do entries+=("$entry"); done < <(
        export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
        "$LONGSEQ_BASE_PYTHON" -m longseq.run.resumed "$load" "$LONGSEQ_RANKS" && printf 'end\0'
    )
    ((${#entries[@]})) || return 2 # Python has said why
    unset "entries[$((${#entries[@]} - 1))]"
    for entry in ${entries[@]+"${entries[@]}"}; do
        name=${entry%%=*}
        case $entry in
            LONGSEQ_NETWORK=*) LONGSEQ_NETWORK=${entry#*=} ;;
            flag=*) LONGSEQ_INHERITED+=("${entry#*=}") ;;
            *)
                longseq_row "$name" && row=${REPLY#*|}
                longseq_take "$name" "${row%%|*}" "${entry#*=}" || return
                ;;
        esac
    done
}

longseq_share_out() { # sets MPSIZE, SPSIZE, RINGSIZE, and the global batch that follows; needs LONGSEQ_RANKS
    local type=${LONGSEQ_VALUE[SP_TYPE]} ranks=$LONGSEQ_RANKS tp ulysses ring shared data global pipe=${LONGSEQ_VALUE[PPSIZE]}
    # The chosen axis takes the ranks that the sizes given for the other axes leave
    tp=${LONGSEQ_VALUE[MPSIZE]:-1} ulysses=${LONGSEQ_VALUE[SPSIZE]:-1} ring=${LONGSEQ_VALUE[RINGSIZE]:-1}
    shared=$((tp * ulysses * ring * pipe))
    if ((shared <= ranks && ranks % shared == 0)); then
        case $type in
            megatron) [[ -n ${LONGSEQ_VALUE[MPSIZE]} ]] || tp=$((ranks / shared)) ;;
            ds) [[ -n ${LONGSEQ_VALUE[SPSIZE]} ]] || ulysses=$((ranks / shared)) ;;
            ring) [[ -n ${LONGSEQ_VALUE[RINGSIZE]} ]] || ring=$((ranks / shared)) ;;
        esac
    fi
    shared=$((tp * ulysses * ring * pipe))
    if ((ranks % shared != 0)); then
        ((pipe == 1)) || ring+=" x PPSIZE $pipe"
        longseq_refuse "$ranks ranks (NGPUS) cannot be shared out as MPSIZE $tp x SPSIZE $ulysses x RINGSIZE\
 $ring = $shared: the ranks must be a multiple of that" || return
    fi
    data=$((ranks / shared))
    longseq_share_batch "$data" || return
    global=${LONGSEQ_VALUE[GLOBAL_BATCH]}
    LONGSEQ_VALUE[MPSIZE]=$tp LONGSEQ_VALUE[SPSIZE]=$ulysses LONGSEQ_VALUE[RINGSIZE]=$ring
    LONGSEQ_LAYOUT=tp$tp
    ((ulysses == 1)) || LONGSEQ_LAYOUT+=_ulysses$ulysses
    ((ring == 1)) || LONGSEQ_LAYOUT+=_ring$ring
    ((pipe == 1)) || LONGSEQ_LAYOUT+=_pp$pipe
    ((data == 1)) || LONGSEQ_LAYOUT+=_dp$data
    LONGSEQ_ARGS+=(--global-batch-size "$global")
    ((pipe == 1)) || LONGSEQ_ARGS+=(--pipeline-model-parallel-size "$pipe")
}

longseq_share_batch() { # longseq_share_batch DATA: sets GLOBAL_BATCH or GAS, whichever follows from the other
    local pass=$(($1 * LONGSEQ_VALUE[MICRO_BATCH])) global=${LONGSEQ_VALUE[GLOBAL_BATCH]}
    if [[ -n $global && -z ${GAS-}${GRADIENT_ACCUMULATION_STEPS-} ]]; then
        # The batch of the run before, on other ranks: each works on fewer samples at once
        while [[ -n ${LONGSEQ_INHERITED[*]-}${LONGSEQ_RESTARTED-} && -z ${MICRO_BATCH-} ]] && ((pass > $1 && global % pass)); do
            LONGSEQ_VALUE[MICRO_BATCH]=$((LONGSEQ_VALUE[MICRO_BATCH] - 1)) pass=$((pass - $1))
        done
        ((global % pass == 0)) || longseq_refuse "GLOBAL_BATCH=$global cannot be shared out over $1 data-parallel\
 rank(s) with MICRO_BATCH=${LONGSEQ_VALUE[MICRO_BATCH]}: it must be a multiple of $pass" || return
        LONGSEQ_VALUE[GAS]=$((global / pass))
    fi
    pass=$((pass * LONGSEQ_VALUE[GAS]))
    [[ -z $global ]] || ((global == pass)) || longseq_refuse "GLOBAL_BATCH=$global is not MICRO_BATCH x GAS x\
 data-parallel ranks = $pass: leave GAS out" || return
    LONGSEQ_VALUE[GLOBAL_BATCH]=$pass
}

longseq_leave_kernel() { # longseq_leave_kernel [EXTRA...]: one named behind -- takes the place of one that nobody asks for now
    local name
    [[ " $* " == *" --use-flash-attn-"* ]] || return 0
    for name in "${!USE_FLASH_ATTN@}"; do # and its older spellings, whose 0 asks for nothing
        [[ -z ${!name} || $name/${!name} == USE_FLASH_ATTN?*/0 ]] || return 0
    done
    LONGSEQ_VALUE[USE_FLASH_ATTN]=
}

longseq_follow_lr() { # a MIN_LR that nobody has typed would be refused above the LR that somebody did
    local least
    [[ -n ${LR-} && -z ${MIN_LR-} ]] || return 0
    least=$(awk -v lr="$LR" -v least="${LONGSEQ_VALUE[MIN_LR]}" 'BEGIN { if (least + 0 > lr + 0) print lr / 10 }') || return
    [[ -n $least ]] || return 0
    LONGSEQ_NOTES+=("min lr    $least, a tenth of LR, which is below ${LONGSEQ_VALUE[MIN_LR]}")
    LONGSEQ_VALUE[MIN_LR]=$least
}

longseq_complete() { # sets the values that follow from others, where the user gave none
    local kernel=${LONGSEQ_VALUE[USE_FLASH_ATTN]} load=${LONGSEQ_VALUE[LOAD]}
    if [[ -z ${LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]} ]]; then
        [[ ${LONGSEQ_VALUE[SP_TYPE]} == megatron ]] && ((LONGSEQ_VALUE[MPSIZE] > 1)) &&
            LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]=1
    fi
    if [[ -z ${LONGSEQ_VALUE[ZERO_STAGE]} ]]; then
        LONGSEQ_VALUE[ZERO_STAGE]=0
        [[ ${LONGSEQ_VALUE[SP_TYPE]} != ds ]] || LONGSEQ_VALUE[ZERO_STAGE]=3
    fi
    # The profile's disk serves only when asked for; a path that somebody set is refused when unused
    if [[ ${LONGSEQ_VALUE[OFFLOAD_DEVICE]}/${LONGSEQ_VALUE[OFFLOAD_PARAM]} == *nvme* ]]; then
        LONGSEQ_VALUE[NVME_PATH]=${LONGSEQ_VALUE[NVME_PATH]:-${LONGSEQ_SCRATCH-}}
    fi
    if [[ ${LONGSEQ_VALUE[TRAINER]} == megatron-deepspeed ]]; then
        LONGSEQ_VALUE[MEGATRON_DEEPSPEED_DIR]=${LONGSEQ_VALUE[MEGATRON_DEEPSPEED_DIR]:-$LONGSEQ_VENV/megatron-deepspeed}
    fi
    LONGSEQ_VALUE[DATA_PATH]=${LONGSEQ_VALUE[DATA_PATH]:-$LONGSEQ_ROOT/data/NC_001416.1.fa}
    [[ -z $load || ! -d $load/checkpoints ]] || LONGSEQ_VALUE[LOAD]=$load/checkpoints
    # Which kernel is the best here is Python's to say, who knows the packages: longseq/config/kernels.py
    [[ $kernel == 1 || -z $kernel ]] || LONGSEQ_NOTES+=("attention ${kernel/#0/core (written out, the reference)}")
}

longseq_table_args() { # adds the flags that the table gives for every value
    local row name type flags word words value only
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name type _ flags _ <<<"$row"
        value=${LONGSEQ_VALUE[$name]-} only=
        [[ -n $flags && -n $value ]] || continue
        IFS=' ' read -r -a words <<<"$flags"
        for word in "${words[@]}"; do
            if [[ $word == *: ]]; then
                only=$word
            elif [[ -n $only ]]; then
                [[ $only != "$value:" ]] || LONGSEQ_ARGS+=("$word")
            elif [[ $type == switch ]]; then
                ((value == 0)) || LONGSEQ_ARGS+=("$word")
            else
                LONGSEQ_ARGS+=("$word" "$value")
            fi
        done
    done
}

longseq_run_args() { # what is the same for all runs, and where things go
    LONGSEQ_ARGS+=(
        --lr-decay-style cosine --weight-decay 0.01 --clip-grad 1.0 --device "$LONGSEQ_DEVICE"
        --split '949,50,1' --run-dir "$LONGSEQ_RUN" --save "$LONGSEQ_RUN/checkpoints"
        --deepspeed_config "$LONGSEQ_RUN/ds_config.json" --tensorboard-dir "$LONGSEQ_RUN/tensorboard"
    )
}

longseq_name_run() { # sets LONGSEQ_RUN: model, layout, sequence, seed, and what makes it the only one
    local parent=${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs} now job
    [[ $parent == /* ]] || parent=$PWD/$parent
    printf -v now '%(%Y%m%d-%H%M%S)T' -1
    job=${PBS_JOBID:-${SLURM_JOB_ID:-${COBALT_JOBID:-}}}
    # A restart, which is the same process, may begin within the second
    job=${job:+_job${job%%.*}}_$$${LONGSEQ_RESTARTED:+_r$LONGSEQ_RESTARTED}
    LONGSEQ_RUN=${parent%/}/${LONGSEQ_NAMED:-${LONGSEQ_VALUE[MODEL_SIZE_KEY]}}_${LONGSEQ_LAYOUT}_s${LONGSEQ_VALUE[SEQ_LEN]}
    LONGSEQ_RUN+=_seed${LONGSEQ_VALUE[SEED]}_$now$job
}

longseq_moved() { # longseq_moved WORD...: sets REPLY to the first that names checkpoints elsewhere; status 1: none
    local word
    for word in "$@"; do
        REPLY=${word%%=*}
        [[ $REPLY != --load && $REPLY != --save ]] || return 0
    done
    return 1
}

longseq_check_moved() { # longseq_check_moved [EXTRA...]: refuses what would undo how a run goes on, or could not act
    local REPLY
    [[ " $* " != *" --run-dir"[\ =]* ]] || longseq_refuse "--run-dir behind --: a run's folder gets its name here; OUTPUT_DIR\
 says in which folder it is made" || return
    [[ -z ${RESTARTS-} || $RESTARTS == 0 ]] || ! longseq_moved "$@" ||
        longseq_refuse "RESTARTS=$RESTARTS cannot act, as $REPLY is given behind --: a run goes on from its own\
 folder; leave one of them out"
}

longseq_args() { # longseq_args [EXTRA...]: sets LONGSEQ_ARGS; what is in EXTRA comes last and so wins
    local LONGSEQ_LAYOUT=
    LONGSEQ_ARGS=() LONGSEQ_NOTES=()
    longseq_check_names || return
    longseq_read_variables || return
    longseq_check_moved "$@" || return
    longseq_inherit || return
    longseq_leave_kernel "$@"
    longseq_network_args "$@" || return
    longseq_share_out || return
    longseq_complete
    longseq_follow_lr || return
    longseq_name_run
    longseq_table_args
    longseq_run_args
    if [[ " $* " == *" -- "* ]]; then
        longseq_refuse "a second -- among the trainer's arguments: give it once" || return
    fi
    LONGSEQ_ARGS+=(${LONGSEQ_INHERITED[@]+"${LONGSEQ_INHERITED[@]}"} "$@")
}
