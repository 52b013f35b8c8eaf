# shellcheck shell=bash
# Sourced: the environment's variables → one Megatron-style argument list. Needs setup.sh and
# models.sh. Defines functions, and sets
#   LONGSEQ_VARIABLES   the table of variables: all there are, with type, default and meaning
#   LONGSEQ_VALUE       associative array: each variable as it was given or else by default, parsed
#   LONGSEQ_ARGS        array: the argument list
#   LONGSEQ_RUN         the run's folder
#   LONGSEQ_NOTES       array: what was chosen, and why, for the screen

# NAME|type|default|meaning. A default "A / B" is A on a CPU and B on a GPU; one in parentheses is
# worked out from other variables. docs/variables.md is made from this table.
LONGSEQ_VARIABLES=(
    "MODEL_SIZE_KEY|text|GPT_SMALL / GPT13B|Which network; \`./ALCF/train-gpt3.sh --list-models\` lists them."
    "SEQ_LEN|tokens|512 / 2048|Tokens in a sample. \`k\` is 1024 and \`m\` 1024 x 1024, so \`128k\` is 131072; \`128000\` is just that."
    "USE_ROTARY|switch|1|Rotary positions; 0: a learned table of positions."
    "DATA_PATH|text|(the genome in data/)|A FASTA file, or the prefix of a .bin/.idx pair."
    "VOCAB_FILE|none||A vocabulary comes with DATA_PATH here."
    "MERGE_FILE|none||A vocabulary comes with DATA_PATH here."
    "MICRO_BATCH|count|2 / 1|Samples that a rank works on at once."
    "GAS|count|1|Gradient accumulation: micro batches that make one step."
    "GRADIENT_ACCUMULATION_STEPS|count|(GAS)|Another name of GAS."
    "NGPUS|count|2 / (all of the hosts)|Ranks in all. On a CPU it may be more than the cores."
    "NGPU_PER_HOST|count|2 / (all of a host)|Ranks on each host."
    "NHOSTS|count|(all there are)|Hosts to use."
    "HOSTFILE|text|(the scheduler's)|A file of host names, one a line, each with \`slots=N\` or without."
    "SPARE_NODES|whole|0|Hosts of the allocation to keep back for those that the preflight finds bad."
    "PREFLIGHT|switch|(1 on several hosts, else 0)|Check every host before the ranks start: \`longseq doctor\`."
    "SP_TYPE|choice megatron ds ring|megatron|Which axis the ranks go to unless the sizes below say otherwise: tensor parallelism with Megatron's sequence parallelism, Ulysses (\`ds\`), or ring attention."
    "MPSIZE|count|(all ranks with megatron, else 1)|Tensor-parallel ranks."
    "SPSIZE|count|(all ranks with ds, else 1)|Ulysses ranks."
    "RINGSIZE|count|(all ranks with ring, else 1)|Ring-attention ranks."
    "PPSIZE|count|1|Pipeline stages: only 1."
    "USE_SEQUENCE_PARALLEL|switch|(1 with tensor-parallel ranks, else 0)|Megatron's sequence parallelism."
    "USE_FLASH_ATTN|choice 0 1 v1 v2 v3 triton sdpa|1|Attention kernel. 1: the best that there is here (docs/kernels.md has the order); 0: written out, the reference; else the one named."
    "USE_FLASH_ATTN1|switch||Older spelling of USE_FLASH_ATTN=v1. 0 and empty: not asked for."
    "USE_FLASH_ATTN2|switch||Older spelling of USE_FLASH_ATTN=v2."
    "USE_FLASH_ATTN_V1|switch||Older spelling of USE_FLASH_ATTN=v1."
    "USE_FLASH_ATTN_V2|switch||Older spelling of USE_FLASH_ATTN=v2."
    "USE_FLASH_ATTN_V3|switch||Older spelling of USE_FLASH_ATTN=v3."
    "USE_FLASH_ATTN_TRITON|switch||Older spelling of USE_FLASH_ATTN=triton."
    "USE_ACTIVATION_CHECKPOINTING|switch|(chosen from memory)|Recompute each layer in the backward pass: 1 all of them, 0 none; unset: as little as the memory there is allows."
    "ZERO_STAGE|choice 0 1 2 3|(3 with ds, else 0)|DeepSpeed's ZeRO stage."
    "OFFLOAD_DEVICE|choice none cpu nvme|none|Where the optimizer's state lies: beside the weights, in host memory (ZERO_STAGE 1 to 3), or in files (stage 3)."
    "OFFLOAD_PARAM|choice none cpu nvme|none|Where ZeRO stage 3 keeps the parameters between their uses."
    "NVME_PATH|text|(the machine's local disk)|Folder for what is offloaded to nvme, on a local disk of each host."
    "DS_CONFIG|text||A JSON file of DeepSpeed settings that replace ours."
    "DDP_IMPL|choice local|local|Data parallelism; FSDP is ZERO_STAGE=3 here."
    "DTYPE|choice fp32 bf16 fp16|fp32 / bf16|Precision of the weights and of the arithmetic."
    "TRAIN_ITERS|count|300 / 320000|Iterations of the whole training."
    "LR|number|5e-4 / 1.5e-4|Peak learning rate."
    "MIN_LR|number|5e-5 / 1e-5|Learning rate at the end of the cosine."
    "LR_WARMUP_FRACTION|number|0.1 / 0.01|Part of the iterations in which the learning rate rises to LR."
    "SEED|whole|1234|Seed of the weights, of the order of the data and of dropout."
    "EVAL_INTERVAL|count|100 / 1000|Iterations between validations."
    "SAVE_INTERVAL|count|300 / 1000|Iterations between checkpoints."
    "OUTPUT_DIR|text|(outputs/ in the repository)|Parent of the runs' folders."
    "LOAD|text||Go on from here: a run's folder, or a folder of checkpoints."
    "RESUME|text|(LOAD)|Another name of LOAD."
    "WANDB_MODE|choice online offline disabled|(online with a key, else offline)|Weights & Biases; a variable of its own that we check."
    "WB_PROJECT|text|GenSLM-Megatron-DS|Project in Weights & Biases."
    "WANDB_PROJECT|text|(WB_PROJECT)|Another name of WB_PROJECT."
    "MACHINE|text|(recognised)|Profile in ALCF/machines/ to use."
    "PYTHON|text|(the first of 3.10 to 3.13 found)|The Python that the environment is made with."
    "DS_ACCELERATOR|choice cuda cpu|(recognised)|cpu: ranks on the CPU cores of a machine with GPUs."
    "SITE_MODULES|switch|1|0: load none of the machine's modules; the environment is as it should be."
    "SITE_NCCL|switch|1|0: leave out all that the machine's profile advises for NCCL."
    "SITE_LIMITS|switch|1|0: submit what the profile takes to be more than a queue allows."
    "QUEUE|text|(the profile's)|Queue, partition or QOS of a job; -q of submit.sh."
    "WALLTIME|time|(the longest of 1:00:00 that the queue takes)|Time of a job; the run saves and ends before it is over; -t."
    "PROJECT|text||Project or account that a job is charged to; -A."
    "FILESYSTEMS|text|(the profile's)|File systems that a job needs, where the site wants to know."
    "DRY_RUN|switch|0|1: print what would be run, and touch nothing."
)

longseq_list_variables() { # prints docs/variables.md
    local row name type default meaning
    cat <<'TEXT'
# Variables

Set them before the command: `SEQ_LEN=128k MODEL_SIZE_KEY=GPT25B ./ALCF/train-gpt3.sh`. An empty
variable counts as not set. "A / B" is A on a CPU and B on a GPU; a default in parentheses follows
from others. A variable that looks like a misspelt one of these is refused. This file is the output
of `./ALCF/train-gpt3.sh --list-variables`.

| variable | values | default | meaning |
|---|---|---|---|
TEXT
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name type default meaning <<<"$row"
        case $type in
            count) type='a whole number from 1' ;;
            whole) type='a whole number from 0' ;;
            tokens) type='tokens, as 2048, 128k or 1m' ;;
            time) type='HH:MM:SS, 90m or 6h' ;;
            number) type='a number, as 3e-4' ;;
            switch) type='0 or 1' ;;
            none) type='refused' ;;
            choice\ *) type=${type#choice } type=${type// /, } ;;
        esac
        printf '| %s | %s | %s | %s |\n' "$name" "$type" "${default:- }" "$meaning"
    done
    cat <<'TEXT'

Arguments after `--` go to the trainer as they are: `./ALCF/train-gpt3.sh -- --swiglu`. They come
after those that the variables make, and the last one wins. `longseq flags` lists them.

Others that are obeyed: OMP_NUM_THREADS (threads of a rank; the cores shared out unless set),
MASTER_ADDR and MASTER_PORT (where ranks meet; the first host and a free port unless set),
CUDA_VISIBLE_DEVICES, WANDB_API_KEY and the other settings of Weights & Biases, and pip's settings
during installation.
TEXT
}

# ---------------------------------------------------------------- reading the variables

longseq_nearest() { # longseq_nearest WORD NAME...: prints "; did you mean NAME?", or nothing
    local word=$1 pair
    shift
    [[ $word =~ ^[A-Za-z0-9_.-]+$ ]] || return 0
    pair=$({
        printf 'known %s\n' "$@"
        printf 'word %s\n' "$word"
    } | awk -v anything=1 -f "$LONGSEQ_ROOT/ALCF/nearest.awk")
    [[ -z $pair ]] || printf '; did you mean %s?' "${pair#* }"
}

longseq_check_names() { # refuses an exported variable that looks like a misspelt one of ours
    local row word meant
    while read -r word meant; do
        longseq_refuse "$word=${!word} is not a variable of ours; did you mean $meant? (if it belongs to\
 another program, unset it for this command: env -u $word ...)" || return
    done < <({
        for row in "${LONGSEQ_VARIABLES[@]}"; do printf 'known %s\n' "${row%%|*}"; done
        compgen -e | while read -r word; do printf 'word %s\n' "$word"; done
    } | awk -f "$LONGSEQ_ROOT/ALCF/nearest.awk")
}

longseq_parse() { # longseq_parse NAME TYPE TEXT: sets REPLY to the value, or refuses it
    local name=$1 type=$2 text=$3 unit=1
    REPLY=$text
    case $type in
        text) return ;;
        none)
            longseq_refuse "$name=$text: not used here, as a vocabulary comes with DATA_PATH; unset it"
            ;;
        count)
            longseq_is_count "$text" || longseq_refuse "$name=$text: give a whole number from 1"
            ;;
        whole)
            [[ $text == 0 ]] || longseq_is_count "$text" ||
                longseq_refuse "$name=$text: give a whole number from 0"
            ;;
        number)
            [[ $text =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?$ ]] ||
                longseq_refuse "$name=$text: give a number such as 0.0003 or 3e-4"
            ;;
        tokens)
            [[ $text == *[kK] ]] && unit=1024
            [[ $text == *[mM] ]] && unit=$((1024 * 1024))
            ((unit == 1)) || text=${text%?}
            longseq_is_count "$text" ||
                longseq_refuse "$name=$3: give a number of tokens such as 2048, 128k (131072) or 1m" || return
            REPLY=$((text * unit))
            ;;
        time)
            longseq_seconds "$text" ||
                longseq_refuse "$name=$text: give a time such as 1:30:00, 90m or 6h" || return
            REPLY=$text
            ;;
        switch)
            case $text in
                1 | on | true | yes) REPLY=1 ;;
                0 | off | false | no) REPLY=0 ;;
                *) longseq_refuse "$name=$text: give 1 (on) or 0 (off)" ;;
            esac
            ;;
        choice\ *)
            [[ " ${type#choice } " == *" $text "* && $text != *' '* ]] ||
                longseq_refuse "$name=$text: choose one of ${type#choice }"
            ;;
    esac
}

longseq_seconds() { # longseq_seconds TIME: sets REPLY to its seconds; status 1 if it is no time
    local number='([0-9]{1,6})'
    REPLY=0
    if [[ $1 =~ ^($number-)?$number:([0-5]?[0-9]):([0-5]?[0-9])$ ]]; then
        REPLY=$((10#0${BASH_REMATCH[2]} * 86400 + 10#${BASH_REMATCH[3]} * 3600))
        REPLY=$((REPLY + 10#${BASH_REMATCH[4]} * 60 + 10#${BASH_REMATCH[5]}))
    elif [[ $1 =~ ^$number([smhd])$ ]]; then
        REPLY=${BASH_REMATCH[2]}
        REPLY=${REPLY/s/1} REPLY=${REPLY/m/60} REPLY=${REPLY/h/3600} REPLY=${REPLY/d/86400}
        REPLY=$((10#${BASH_REMATCH[1]} * REPLY))
    fi
    ((REPLY > 0))
}

longseq_read_variables() { # sets LONGSEQ_VALUE from the environment and the table's defaults
    local row name type default rest
    declare -gA LONGSEQ_VALUE=()
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name type default rest <<<"$row"
        if [[ -n ${!name-} ]]; then
            longseq_check_special "$name" "${!name}" || return
            longseq_parse "$name" "$type" "${!name}" || return
            LONGSEQ_VALUE[$name]=$REPLY
            continue
        fi
        if [[ $default == *' / '* ]]; then
            [[ $LONGSEQ_DEVICE == cpu ]] && default=${default%% / *} || default=${default##* / }
        fi
        [[ $default == \(* ]] && default=
        LONGSEQ_VALUE[$name]=$default
    done
}

longseq_check_special() { # longseq_check_special NAME TEXT: values that deserve a reason of their own
    case $1=$2 in
        DDP_IMPL=FSDP | DDP_IMPL=fsdp)
            longseq_refuse "DDP_IMPL=$2 is not used here: ZERO_STAGE=3 shards the weights in the same way"
            ;;
        PPSIZE=1) ;;
        PPSIZE=*)
            longseq_refuse "PPSIZE=$2: there is no pipeline; give the ranks to MPSIZE, SPSIZE or RINGSIZE,\
 or use ZERO_STAGE=3"
            ;;
    esac
}

longseq_same() { # longseq_same MAIN OTHER: two names of one value; refuses two values, keeps one
    local main=$1 other=$2
    [[ -n ${!other-} ]] || return 0
    if [[ -n ${!main-} && ${LONGSEQ_VALUE[$main]} != "${LONGSEQ_VALUE[$other]}" ]]; then
        longseq_refuse "$main=${!main} and $other=${!other} are two names of one setting and differ: unset one" ||
            return
    fi
    LONGSEQ_VALUE[$main]=${LONGSEQ_VALUE[$other]}
}

# ---------------------------------------------------------------- the argument list, by subject

longseq_network_args() {
    local key=${LONGSEQ_VALUE[MODEL_SIZE_KEY]} why="MODEL_SIZE_KEY" where=GPU
    longseq_model "$key" || return
    [[ $LONGSEQ_DEVICE == cuda ]] || where=CPU
    [[ -n ${MODEL_SIZE_KEY-} ]] || why="the default on a ${where}; MODEL_SIZE_KEY chooses another"
    LONGSEQ_NOTES+=("model     $key ($why): $LONGSEQ_LAYERS layers, hidden $LONGSEQ_HIDDEN, $LONGSEQ_HEADS heads")
    LONGSEQ_NOTES+=("sequence  ${LONGSEQ_VALUE[SEQ_LEN]} tokens")
    LONGSEQ_ARGS+=(
        --num-layers "$LONGSEQ_LAYERS" --hidden-size "$LONGSEQ_HIDDEN"
        --num-attention-heads "$LONGSEQ_HEADS" --seq-length "${LONGSEQ_VALUE[SEQ_LEN]}"
        --max-position-embeddings "${LONGSEQ_VALUE[SEQ_LEN]}"
    )
    ((LONGSEQ_VALUE[USE_ROTARY] == 0)) || LONGSEQ_ARGS+=(--use-rotary-position-embeddings)
}

longseq_layout_args() { # the axes, and the batch that follows from them
    local type=${LONGSEQ_VALUE[SP_TYPE]} ranks=$LONGSEQ_RANKS tp ulysses ring shared data global sequence
    # The chosen axis takes the ranks that the sizes given for the other axes leave
    tp=${LONGSEQ_VALUE[MPSIZE]:-1} ulysses=${LONGSEQ_VALUE[SPSIZE]:-1} ring=${LONGSEQ_VALUE[RINGSIZE]:-1}
    shared=$((tp * ulysses * ring))
    if ((shared <= ranks && ranks % shared == 0)); then
        case $type in
            megatron) [[ -n ${LONGSEQ_VALUE[MPSIZE]} ]] || tp=$((ranks / shared)) ;;
            ds) [[ -n ${LONGSEQ_VALUE[SPSIZE]} ]] || ulysses=$((ranks / shared)) ;;
            ring) [[ -n ${LONGSEQ_VALUE[RINGSIZE]} ]] || ring=$((ranks / shared)) ;;
        esac
    fi
    shared=$((tp * ulysses * ring))
    if ((ranks % shared != 0)); then
        longseq_refuse "$ranks ranks (NGPUS) cannot be shared out as MPSIZE $tp x SPSIZE $ulysses x RINGSIZE\
 $ring = $shared: the ranks must be a multiple of that" || return
    fi
    data=$((ranks / shared))
    global=$((data * LONGSEQ_VALUE[MICRO_BATCH] * LONGSEQ_VALUE[GAS]))
    sequence=${LONGSEQ_VALUE[USE_SEQUENCE_PARALLEL]:-$((tp > 1 && ${#type} == 8))}
    LONGSEQ_LAYOUT=tp$tp
    ((ulysses == 1)) || LONGSEQ_LAYOUT+=_ulysses$ulysses
    ((ring == 1)) || LONGSEQ_LAYOUT+=_ring$ring
    ((data == 1)) || LONGSEQ_LAYOUT+=_dp$data
    LONGSEQ_NOTES+=("layout    $ranks ranks = tensor $tp x Ulysses $ulysses x ring $ring x data $data; global batch $global")
    LONGSEQ_ARGS+=(
        --tensor-model-parallel-size "$tp" --ds-sequence-parallel-size "$ulysses"
        --context-parallel-size "$ring"
    )
    ((sequence == 0)) || LONGSEQ_ARGS+=(--sequence-parallel)
    LONGSEQ_ARGS+=(--micro-batch-size "${LONGSEQ_VALUE[MICRO_BATCH]}" --global-batch-size "$global")
}

longseq_attention_args() { # one kernel out of seven spellings
    local kernel=${LONGSEQ_VALUE[USE_FLASH_ATTN]} from=USE_FLASH_ATTN name asked
    local olds=(USE_FLASH_ATTN1 USE_FLASH_ATTN2 USE_FLASH_ATTN_V1 USE_FLASH_ATTN_V2 USE_FLASH_ATTN_V3 USE_FLASH_ATTN_TRITON)
    [[ -n ${USE_FLASH_ATTN-} ]] || from=
    for name in "${olds[@]}"; do
        [[ ${LONGSEQ_VALUE[$name]} == 1 ]] || continue
        asked=${name#USE_FLASH_ATTN} asked=${asked#_} asked=${asked,,}
        [[ $asked == [12] ]] && asked=v$asked
        if [[ -n $from && $kernel != 1 && $kernel != "$asked" ]]; then
            longseq_refuse "$from=${!from} and $name=${!name} ask for different attention: unset one" || return
        fi
        kernel=$asked from=$name
    done
    # Which one is the best here is Python's to say, who knows the packages: longseq/config/kernels.py
    [[ $kernel == 1 ]] && kernel=best
    [[ $kernel == best ]] || LONGSEQ_NOTES+=("attention ${kernel/#0/core (written out, the reference)}")
    [[ $kernel == 0 ]] || LONGSEQ_ARGS+=("--use-flash-attn-$kernel")
}

longseq_memory_args() {
    local stage=${LONGSEQ_VALUE[ZERO_STAGE]}
    [[ -n $stage ]] || { [[ ${LONGSEQ_VALUE[SP_TYPE]} == ds ]] && stage=3 || stage=0; }
    LONGSEQ_ARGS+=(--zero-stage "$stage" --deepspeed_config "$LONGSEQ_RUN/ds_config.json")
    case ${LONGSEQ_VALUE[USE_ACTIVATION_CHECKPOINTING]} in
        1) LONGSEQ_ARGS+=(--checkpoint-activations) ;;
        0) LONGSEQ_ARGS+=(--recompute-granularity none) ;;
    esac
    longseq_offload_args
}

longseq_offload_args() {
    local optimizer=${LONGSEQ_VALUE[OFFLOAD_DEVICE]} param=${LONGSEQ_VALUE[OFFLOAD_PARAM]}
    local disk=${LONGSEQ_VALUE[NVME_PATH]} file=${LONGSEQ_VALUE[DS_CONFIG]}
    [[ $optimizer == none ]] || LONGSEQ_ARGS+=("--$optimizer-optimizer")
    [[ $param == none ]] || LONGSEQ_ARGS+=(--remote-device "$param")
    # The profile's disk serves only when asked for; a path that somebody set is refused when unused
    [[ $optimizer != nvme && $param != nvme ]] || disk=${disk:-${LONGSEQ_SCRATCH-}}
    [[ -z $disk ]] || LONGSEQ_ARGS+=(--nvme-path "$disk")
    [[ -z $file ]] || LONGSEQ_ARGS+=(--deepspeed-overrides "$file")
}

longseq_training_args() {
    LONGSEQ_ARGS+=(
        --train-iters "${LONGSEQ_VALUE[TRAIN_ITERS]}" --lr "${LONGSEQ_VALUE[LR]}"
        --min-lr "${LONGSEQ_VALUE[MIN_LR]}" --lr-decay-style cosine
        --lr-warmup-fraction "${LONGSEQ_VALUE[LR_WARMUP_FRACTION]}"
        --weight-decay 0.01 --clip-grad 1.0 --seed "${LONGSEQ_VALUE[SEED]}" --device "$LONGSEQ_DEVICE"
    )
    [[ ${LONGSEQ_VALUE[DTYPE]} == fp32 ]] || LONGSEQ_ARGS+=("--${LONGSEQ_VALUE[DTYPE]}")
}

longseq_run_args() { # data, and where things go
    local load=${LONGSEQ_VALUE[LOAD]}
    [[ -z $load || ! -d $load/checkpoints ]] || load=$load/checkpoints
    LONGSEQ_ARGS+=(
        --data-path "${LONGSEQ_VALUE[DATA_PATH]:-$LONGSEQ_ROOT/data/NC_001416.1.fa}"
        --split '949,50,1'
        --run-dir "$LONGSEQ_RUN" --save "$LONGSEQ_RUN/checkpoints"
    )
    [[ -z $load ]] || LONGSEQ_ARGS+=(--load "$load")
    LONGSEQ_ARGS+=(
        --save-interval "${LONGSEQ_VALUE[SAVE_INTERVAL]}" --eval-interval "${LONGSEQ_VALUE[EVAL_INTERVAL]}"
        --tensorboard-dir "$LONGSEQ_RUN/tensorboard" --wandb-project "${LONGSEQ_VALUE[WB_PROJECT]}"
    )
}

longseq_name_run() { # sets LONGSEQ_RUN: model, layout, sequence, seed, and what makes it the only one
    local parent=${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs} now job
    [[ $parent == /* ]] || parent=$PWD/$parent
    printf -v now '%(%Y%m%d-%H%M%S)T' -1
    job=${PBS_JOBID:-${SLURM_JOB_ID:-${COBALT_JOBID:-}}}
    job=${job:+_job${job%%.*}}_$$
    LONGSEQ_RUN=${parent%/}/${LONGSEQ_VALUE[MODEL_SIZE_KEY]}_${LONGSEQ_LAYOUT}_s${LONGSEQ_VALUE[SEQ_LEN]}
    LONGSEQ_RUN+=_seed${LONGSEQ_VALUE[SEED]}_$now$job
}

longseq_args() { # longseq_args [EXTRA...]: sets LONGSEQ_ARGS; what is in EXTRA comes last and so wins
    local LONGSEQ_LAYOUT=
    LONGSEQ_ARGS=() LONGSEQ_NOTES=()
    longseq_check_names || return
    longseq_read_variables || return
    longseq_same GAS GRADIENT_ACCUMULATION_STEPS || return
    longseq_same LOAD RESUME || return
    longseq_same WB_PROJECT WANDB_PROJECT || return
    longseq_network_args || return
    longseq_layout_args || return
    longseq_attention_args || return
    longseq_name_run
    longseq_memory_args
    longseq_training_args
    longseq_run_args
    if [[ " $* " == *" -- "* ]]; then
        longseq_refuse "a second -- among the trainer's arguments: give it once" || return
    fi
    LONGSEQ_ARGS+=("$@")
}
