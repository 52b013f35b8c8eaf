# shellcheck shell=bash
# Sourced by setup.sh: the table of variables (variables.txt) and what it says of the environment.
# Defines functions, and sets
#   LONGSEQ_VARIABLES  array: NAME|type|default|flags|marks|meaning, a row for each of ours
#   LONGSEQ_OTHERS     array: "PATTERN marks", for each that other programs read
#   LONGSEQ_LIKELY     array: "PATTERN meant" or "NAME=PATTERN meant", for each that people write for one of ours
#   LONGSEQ_SECRET     associative array: the expressions of secrets.txt for a name and for a value
#   LONGSEQ_WORDS      array (longseq_split): the words of a text
#   LONGSEQ_VALUE      associative array (longseq_read_variables): each of ours as it was given or else by
#                      default, parsed; empty where its default is worked out later

longseq_read_table() { # sets these arrays, LONGSEQ_VALUE apart
    local line names what pattern
    LONGSEQ_VARIABLES=() LONGSEQ_OTHERS=() LONGSEQ_LIKELY=()
    while IFS= read -r line; do
        names=${line%% | *} what=${line#* | } what=${what#* | }
        case $line in
            '' | '#'* | '['*) ;;
            *' | others | '* | *' | likely | '*)
                while read -r pattern; do
                    if [[ $line == *' | others | '* ]]; then
                        LONGSEQ_OTHERS+=("$pattern ${what%% | *}")
                    else
                        LONGSEQ_LIKELY+=("$pattern $what")
                    fi
                done <<<"${names// /$'\n'}"
                ;;
            *) LONGSEQ_VARIABLES+=("${line// | /|}") ;;
        esac
    done <"$LONGSEQ_ROOT/ALCF/variables.txt"
    # Not `declare -gA NAME=()`, which in bash 4.2 makes a local of it
    declare -gA LONGSEQ_SECRET
    LONGSEQ_SECRET=()
    while read -r what pattern; do
        [[ $what != name && $what != value ]] || LONGSEQ_SECRET[$what]+=${LONGSEQ_SECRET[$what]:+|}$pattern
    done <"$LONGSEQ_ROOT/ALCF/secrets.txt"
}

longseq_is_secret() { # longseq_is_secret NAME VALUE: may this hold a key, a token or a password?
    local row REPLY
    [[ ! ${2^^} =~ ${LONGSEQ_SECRET[value]} ]] || return 0
    if longseq_row "$1"; then
        REPLY=${REPLY%|*}
        [[ " ${REPLY##*|} " == *' secret '* ]]
        return
    fi
    for row in "${LONGSEQ_OTHERS[@]}"; do
        [[ ${row%% *} != "$1" ]] || return 1
    done
    [[ ${1^^} =~ ${LONGSEQ_SECRET[name]} ]]
}

longseq_row() { # longseq_row NAME: sets REPLY to its row; status 1 if it is none of ours
    for REPLY in "${LONGSEQ_VARIABLES[@]}"; do
        [[ $REPLY != "$1|"* ]] || return 0
    done
    return 1
}

longseq_others() { # longseq_others NAME MARK: does the table mark this variable of another program so?
    local row
    for row in "${LONGSEQ_OTHERS[@]}"; do
        # shellcheck disable=SC2053 # a pattern
        [[ $1 == ${row%% *} ]] || continue
        [[ " ${row#* } " == *" $2 "* ]]
        return
    done
    return 1
}

longseq_goes_to_hosts() { # longseq_goes_to_hosts NAME: must ranks on other hosts find it as it is here?
    local REPLY
    if longseq_row "$1"; then
        REPLY=${REPLY%|*}
        [[ " ${REPLY##*|} " == *' hosts '* ]]
    else
        longseq_others "$1" hosts
    fi
}

# ---------------------------------------------------------------- names

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

longseq_check_names() { # refuses an exported variable that seems to mean one of ours
    local word meant found row
    # A job has the settings of its submission, where this was asked; its host may export what it likes
    [[ -z ${LONGSEQ_JOB-} ]] || return 0
    found=$({
        printf 'known %s\n' "${LONGSEQ_VARIABLES[@]%%|*}"
        printf 'other %s\n' "${LONGSEQ_OTHERS[@]%% *}"
        printf 'likely %s\n' "${LONGSEQ_LIKELY[@]}"
        compgen -e | while read -r word; do printf 'word %s\n' "$word"; done
    } | awk -f "$LONGSEQ_ROOT/ALCF/nearest.awk") || longseq_refuse "awk fails, which finds misspelt variables" || return
    while read -r word meant; do
        [[ -z $word ]] || longseq_refuse_name "$word" "$meant" || return
    done <<<"$found"
    for row in "${LONGSEQ_LIKELY[@]}"; do # names that others use as well, where the value says whose it is
        word=${row%%=*}
        # shellcheck disable=SC2053 # a pattern
        [[ ${row%% *} == *=* && $word=${!word-} == ${row%% *} ]] || continue
        [[ $'\n'$(compgen -e)$'\n' != *$'\n'$word$'\n'* ]] || longseq_refuse_name "$word" "${row#* }" || return
    done
}

longseq_refuse_name() { # longseq_refuse_name NAME MEANT
    longseq_refuse "$1=${!1} is not a variable of ours; did you mean $2? (if it belongs to\
 another program, unset it for this command: env -u $1 ...)"
}

longseq_tell_of_submission() { # names what is set for submit.sh alone, in a run that is not submitted: a profile may hold it
    local row name marks idle=''
    [[ -z ${LONGSEQ_JOB-} ]] || return 0
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name _ _ _ marks _ <<<"$row"
        [[ -z ${!name-} || " $marks " != *' submit '* ]] || idle+="${idle:+, }$name"
    done
    [[ -z $idle ]] || longseq_say "note: nothing is submitted here, so what only ./ALCF/submit.sh obeys does not act: $idle"
}

# ---------------------------------------------------------------- values

longseq_parse() { # longseq_parse NAME TYPE TEXT: sets REPLY to the value, or refuses it
    local name=$1 type=$2 text=$3
    REPLY=$text
    case $type in
        text | path)
            # It would be in the arguments, in files and on the screen
            ! longseq_is_secret '' "$text" ||
                longseq_refuse "$name: its value looks like a password or a key in an address: take that out" || return
            [[ $type != path ]] || ! longseq_is_too_long "$text" ||
                longseq_refuse "$name=${text:0:80}...: no name in a path may have more than 255 letters: shorten it" || return
            ;;
        count)
            longseq_is_count "$text" || longseq_refuse "$name=$text: give a whole number from 1"
            ;;
        whole)
            [[ $text == 0 ]] || longseq_is_count "$text" ||
                longseq_refuse "$name=$text: give a whole number from 0"
            ;;
        port)
            [[ $text =~ ^[1-9][0-9]{0,4}$ ]] || text=65536
            ((text <= 65535)) ||
                longseq_refuse "$name=$3: give a number from 1 to 65535, or unset it for a free port"
            ;;
        host)
            [[ $text =~ $LONGSEQ_HOST_NAME ]] || longseq_refuse "$name=$text is not the name of a host"
            ;;
        number)
            [[ $text =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?$ ]] ||
                longseq_refuse "$name=$text: give a number such as 0.0003 or 3e-4"
            ;;
        tokens) longseq_parse_tokens "$name" "$text" ;;
        words)
            ! longseq_is_secret '' "$text" && longseq_split "$text" ||
                longseq_refuse "$name: a quote is open, or there is a password in it" || return
            REPLY=$text
            ;;
        time)
            longseq_seconds "$text" ||
                longseq_refuse "$name=$text: give a time such as 1:30:00, 90m or 6h" || return
            REPLY=$text
            ;;
        switch | older\ *)
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

longseq_is_too_long() { # longseq_is_too_long PATH: has it a name of more bytes than a file's may have?
    local LC_ALL=C      # in which a letter is a byte
    [[ $1 =~ [^/]{256} ]]
}

longseq_parse_tokens() { # longseq_parse_tokens NAME TEXT: sets REPLY to the number, or refuses it
    local text=$2 unit=1
    [[ $text == *[kK] ]] && unit=1024
    [[ $text == *[mM] ]] && unit=$((1024 * 1024))
    ((unit == 1)) || text=${text%?}
    longseq_is_count "$text" ||
        longseq_refuse "$1=$2: give a number of tokens such as 2048, 128k (131072) or 1m" || return
    REPLY=$((text * unit))
}

longseq_split() { # longseq_split TEXT: sets LONGSEQ_WORDS, array, to its words; quotes as in the shell, but nothing is expanded
    local word
    LONGSEQ_WORDS=()
    [[ $1 =~ [^[:space:]] ]] || return 0
    printf '%s' "$1" | xargs printf '%s\n' >/dev/null 2>&1 || return
    while IFS= read -r -d '' word; do LONGSEQ_WORDS+=("$word"); done < <(printf '%s' "$1" | xargs printf '%s\0')
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

longseq_check_special() { # longseq_check_special NAME TEXT MEANING: values that deserve a reason of their own
    case $1=$2 in
        DDP_IMPL=FSDP | DDP_IMPL=fsdp)
            longseq_refuse "DDP_IMPL=$2 is not used here: ZERO_STAGE=3 shards the weights in the same way"
            ;;
        PPSIZE=1) ;;
        PPSIZE=*)
            [[ ${TRAINER-} == megatron-deepspeed ]] ||
                longseq_refuse "PPSIZE=$2: there is no pipeline; give the ranks to MPSIZE, SPSIZE or RINGSIZE,\
 use ZERO_STAGE=3, or TRAINER=megatron-deepspeed, which has one"
            ;;
    esac
}

longseq_read_variables() { # sets LONGSEQ_VALUE from the environment and the table's defaults
    local row name type default meaning
    local -A longseq_asked=() # which older spelling has set a value
    declare -gA LONGSEQ_VALUE
    LONGSEQ_VALUE=()
    for row in "${LONGSEQ_VARIABLES[@]}"; do
        IFS='|' read -r name type default _ _ meaning <<<"$row"
        if [[ -n ${!name-} ]]; then
            [[ $type != none ]] || longseq_refuse "$name=${!name}: ${meaning%.}: unset it" || return
            longseq_check_special "$name" "${!name}" || return
            longseq_take "$name" "$type" "${!name}" || return
            continue
        fi
        if [[ $default == *' / '* ]]; then
            [[ $LONGSEQ_DEVICE == cpu ]] && default=${default%% / *} || default=${default##* / }
        fi
        [[ $default == \(* ]] && default=
        LONGSEQ_VALUE[$name]=$default
    done
}

longseq_take() { # longseq_take NAME TYPE TEXT: puts a given value into LONGSEQ_VALUE, under the name that counts
    local main REPLY
    case $2 in
        same\ *)
            main=${2#same }
            longseq_row "$main" && REPLY=${REPLY#*|}
            longseq_parse "$1" "${REPLY%%|*}" "$3" || return
            [[ -z ${!main-} || ${LONGSEQ_VALUE[$main]} == "$REPLY" ]] ||
                longseq_refuse "$main=${!main} and $1=$3 are two names of one setting and differ: unset one" || return
            LONGSEQ_VALUE[$main]=$REPLY
            ;;
        older\ *)
            longseq_parse "$1" switch "$3" && longseq_take_older "$1" "${2#older }" "$REPLY" || return
            ;;
        *) longseq_parse "$1" "$2" "$3" || return ;;
    esac
    LONGSEQ_VALUE[$1]=$REPLY
}

longseq_take_older() { # longseq_take_older NAME MAIN=VALUE 0|1: an older spelling; refuses two meanings
    local main=${2%%=*} value=${2#*=} from
    [[ $3 == 1 ]] || return 0
    from=${longseq_asked[$main]:-${!main:+$main}}
    # MAIN=1 asks for any, and an older spelling says which
    if [[ -n $from && ${LONGSEQ_VALUE[$main]} != 1 && ${LONGSEQ_VALUE[$main]} != "$value" ]]; then
        longseq_refuse "$from=${!from} and $1=${!1} ask for different $main: unset one" || return
    fi
    LONGSEQ_VALUE[$main]=$value
    longseq_asked[$main]=$1
}

# ---------------------------------------------------------------- the list for people

longseq_type_words() { # longseq_type_words TYPE: sets REPLY to it as a person would say it
    case $1 in
        count) REPLY='a whole number from 1' ;;
        whole) REPLY='a whole number from 0' ;;
        tokens) REPLY='tokens, as 2048, 128k or 1m' ;;
        time) REPLY='HH:MM:SS, 90m or 6h' ;;
        number) REPLY='a number, as 3e-4' ;;
        port) REPLY='1 to 65535' ;;
        words) REPLY='options' ;;
        switch | older\ *) REPLY='0 or 1' ;;
        none) REPLY='refused' ;;
        same\ *) REPLY="as ${1#same }" ;;
        choice\ *) REPLY=${1#choice } REPLY=${REPLY// /, } ;;
        *) REPLY=$1 ;;
    esac
}

longseq_list_variables() { # for a terminal by subject and at its width, else docs/variables.md
    local columns
    if [[ -t 1 ]]; then
        columns=$(tput cols 2>/dev/null) || columns=80
        longseq_print_variables terminal | awk -v width="$columns" '{
            line = /^ / ? "   " : ""
            for (i = 1; i <= NF; i++) {
                if (i > 1 && length(line) + 1 + length($i) > width) { print line; line = "   " }
                line = line (line == "" ? "" : " ") $i
            }
            print line
        }'
    else
        longseq_print_variables markdown
    fi
}

longseq_print_variables() { # longseq_print_variables markdown|terminal
    local line name type default flags meaning REPLY how=$1
    [[ $how == terminal ]] || longseq_introduce_variables
    while IFS= read -r line; do
        case $line in
            '' | '#'*) continue ;;
            '['*)
                longseq_print_subject "$how" "${line:1:${#line}-2}"
                continue
                ;;
        esac
        IFS='|' read -r name type default flags _ meaning <<<"${line// | /|}"
        case $how:$type in
            markdown:others) printf '| %s | %s | %s |\n' "${name//\*/\\*}" "${default:- }" "$flags" ;;
            markdown:likely) printf '| %s | %s |\n' "${name//\*/\\*}" "$default" ;;
            terminal:others) printf '%s: %s\n' "$name" "$flags" ;;
            terminal:likely) printf '%s: you mean %s\n' "$name" "$default" ;;
            markdown:*)
                longseq_type_words "$type"
                printf '| %s | %s | %s | %s |\n' "$name" "$REPLY" "${default:- }" "$meaning"
                ;;
            terminal:*)
                longseq_type_words "$type"
                printf '%s  (%s%s)\n    %s\n' "$name" "$REPLY" "${default:+; default ${default}}" "${meaning//\`/}"
                ;;
        esac
    done <"$LONGSEQ_ROOT/ALCF/variables.txt"
}

longseq_print_subject() { # longseq_print_subject markdown|terminal SUBJECT
    if [[ $1 == terminal ]]; then
        printf '\n%s\n\n' "${2^^}"
        return
    fi
    printf '\n## %s\n\n' "$2"
    case $2 in
        *' of others '*)
            cat <<'TEXT'
Such a variable is kept if it is set, and given to: `job`, a job, as it was at submission; `repeat`,
`RUN/command.sh`; `hosts`, ranks on other hosts. `own`: if it was not set at submission, the value that the
job's host sets is kept.

| names | given to | what for |
|---|---|---|
TEXT
            ;;
        Likely*) printf '| name | the one that is meant |\n|---|---|\n' ;;
        *) printf '| variable | values | default | meaning |\n|---|---|---|---|\n' ;;
    esac
}

longseq_introduce_variables() {
    cat <<'TEXT'
# Variables

Set them before the command: `SEQ_LEN=128k MODEL_SIZE_KEY=GPT25B ./ALCF/train-gpt3.sh`. An empty
variable counts as not set. "A / B" is A on a CPU and B on a GPU; a default in parentheses follows
from others. A variable that looks like a misspelt one of these is refused, and a run that is not
submitted says which are set that submit.sh alone obeys. This file is the output of
`./ALCF/train-gpt3.sh --list-variables`; the table it is made from is
[ALCF/variables.txt](../ALCF/variables.txt).

Arguments after `--` go to the trainer as they are: `./ALCF/train-gpt3.sh -- --swiglu`. They come
after those that the variables make, and the last one wins. `./longseq.sh flags` lists them.

A job gets all of these as they were at its submission, and `RUN/command.sh` repeats them: ours, and
those of other programs that are listed below. What may be a key, a token or a password, by its name or
an address with a user in it, goes into no file; its name is said.
TEXT
}

longseq_read_table
