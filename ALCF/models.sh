# shellcheck shell=bash
# Sourced: the architectures by name, in the only table there is. Defines functions, and sets
#   LONGSEQ_MODELS                              the table
#   LONGSEQ_LAYERS LONGSEQ_HIDDEN LONGSEQ_HEADS the row chosen by longseq_model

# key layers hidden heads cuts: a cut is the same network with fewer layers, KEY_nL.
# The name is within 5% of the parameter count of `--list-models`. The published throughput tables
# of 2023 called 64 x 6144 (29.3B) "25B" and 80 x 6144 (36.5B) "33B"; to repeat those, take the
# keys that end in _PUBLISHED.
LONGSEQ_MODELS=(
    "GPT_SMALL         4   256   8 -"
    "GPT125M          12   768  16 -"
    "GPT1_5B          48  1536  24 -"
    "GPT2_7B          32  2560  32 -"
    "GPT6_7B          32  4096  32 -"
    "GPT13B           40  5120  64 -"
    "GPT25B           54  6144  64 -"
    "GPT25B_PUBLISHED 64  6144  64 -"
    "GPT30B           64  6144  64 -"
    "GPT33B           72  6144  64 -"
    "GPT33B_PUBLISHED 80  6144  64 -"
    "GPT145B          80 12288  96 2,4,5,6,8,10,12,16,24,32,48,64"
    "GPT175B          96 12288  96 -"
    "GPT1T           128 25600 160 1,2,4,8"
)

# From so many GPUs on: GPT13B as in 2023 where the GPUs share it out so that each has room, below that the largest
# that GPUs of 40 GiB hold by the plan, with all else at its default (tests/launch/test_models.py)
longseq_default_model() { # longseq_default_model GPUS: sets REPLY to the key
    local row least
    for row in "8 GPT13B" "4 GPT6_7B" "2 GPT2_7B" "1 GPT1_5B"; do
        read -r least REPLY <<<"$row"
        (($1 < least)) || return 0
    done
}

longseq_model_of() { # longseq_model_of LAYERS HIDDEN HEADS: sets REPLY to the key of that row; status 1: there is none
    local row layers hidden heads
    for row in "${LONGSEQ_MODELS[@]}"; do
        read -r REPLY layers hidden heads _ <<<"$row"
        [[ "$layers $hidden $heads" != "$*" ]] || return 0
    done
    return 1
}

longseq_model() { # longseq_model KEY: sets LONGSEQ_LAYERS, LONGSEQ_HIDDEN and LONGSEQ_HEADS
    local row key cuts known=()
    if [[ $1 == BERT* ]]; then
        longseq_refuse "MODEL_SIZE_KEY=$1: BERT is an encoder, and only GPT decoders are trained here;\
 GPT1_5B is of its size" || return
    fi
    for row in "${LONGSEQ_MODELS[@]}"; do
        # shellcheck disable=SC2034 # args.sh reads them
        read -r key LONGSEQ_LAYERS LONGSEQ_HIDDEN LONGSEQ_HEADS cuts <<<"$row"
        [[ $1 == "$key" ]] && return
        if [[ $1 =~ ^${key}_([0-9]+)L$ && ,$cuts, == *,"${BASH_REMATCH[1]}",* ]]; then
            # shellcheck disable=SC2034
            LONGSEQ_LAYERS=${BASH_REMATCH[1]}
            return
        fi
        known+=("$key")
        [[ $cuts == - ]] || known+=("${key}_{$cuts}L")
    done
    longseq_refuse "MODEL_SIZE_KEY=$1 is not known$(longseq_nearest "$1" "${known[@]}"): choose one of\
 ${known[*]}"
}

longseq_parameters() { # longseq_parameters LAYERS HIDDEN: prints the count of the default network
    # Biases everywhere, an MLP of 4 hidden, two norms a layer and a last one, one table of 50,304
    # tokens that is embedding and head, rotary positions (no table).
    local layers=$1 hidden=$2
    printf '%d' $((layers * (12 * hidden * hidden + 13 * hidden) + 2 * hidden + 50304 * hidden))
}

longseq_list_models() { # prints every key with its dimensions and its true parameter count
    local row key cuts layers hidden heads count
    printf '%-18s %6s %6s %5s %19s  %s\n' MODEL_SIZE_KEY layers hidden heads parameters 'layer cuts'
    for row in "${LONGSEQ_MODELS[@]}"; do
        read -r key layers hidden heads cuts <<<"$row"
        [[ $cuts == - ]] && cuts= || cuts="${key}_nL, n = $cuts"
        count=$(longseq_parameters "$layers" "$hidden")
        while [[ $count =~ ^([0-9]+)([0-9]{3}.*)$ ]]; do count=${BASH_REMATCH[1]},${BASH_REMATCH[2]}; done
        printf '%-18s %6d %6d %5d %19s  %s\n' "$key" "$layers" "$hidden" "$heads" "$count" "$cuts"
    done
    echo "Counted with a vocabulary of 50,304 tokens; a nucleotide model has 128 in its place."
}
