#!/usr/bin/env bash
# Trains a GPT: on this machine, or on all hosts of the allocation it is called in. On a login node it
# submits a job that does (ALCF/submit.sh).
#
# Usage: [VARIABLE=value ...] ./ALCF/train-gpt3.sh [-- ARGUMENT ...]
#        ./ALCF/train-gpt3.sh --help | --list-models | --list-variables
#
#   SEQ_LEN=4k MODEL_SIZE_KEY=GPT125M ./ALCF/train-gpt3.sh
#   DRY_RUN=1 ./ALCF/train-gpt3.sh      print the command and touch nothing
#   PLAN=1 ./ALCF/train-gpt3.sh         print what it would need and whether it fits
#   PLAN=suggest ./ALCF/train-gpt3.sh   print the fastest layout that fits
#   ./ALCF/train-gpt3.sh -- --swiglu    arguments for the trainer; they come last and win
#
# --list-variables prints what can be set (docs/variables.md). The environment is made by install.sh
# at the first call.
#
# Exit code: 0 done, 1 an error, 2 a mistake in what was asked for, 69 a host is at fault, 73 no room
# on a disk, 75 stopped early with a checkpoint to go on from, above 128 ended by a signal (137:
# killed).
set -euo pipefail
ended='' # the run's exit code, once it has ended
told=''  # a signal that came between its launcher's end and that
# shellcheck disable=SC2329 # the trap calls it, too
stopped() { # a signal while no rank runs
    [[ -z $ended ]] || exit "$ended"
    echo "longseq: stopped before its ranks were started" >&2
    exit 75
}
trap stopped INT TERM HUP USR1

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/models.sh"
source "$LONGSEQ_ROOT/ALCF/args.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/running.sh"
source "$LONGSEQ_ROOT/ALCF/preflight.sh"
source "$LONGSEQ_ROOT/ALCF/idle.sh"
source "$LONGSEQ_ROOT/ALCF/again.sh"
source "$LONGSEQ_ROOT/ALCF/broadcast.sh"
source "$LONGSEQ_ROOT/ALCF/plan.sh"

extra=()
while (($#)); do
    case $1 in
        --) extra=("${@:2}") && break ;;
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        --list-models) longseq_answer longseq_list_models ;;
        --list-variables) longseq_answer longseq_list_variables ;;
        [A-Z]*=*) longseq_refuse "$1: variables go before the command: $1 ./ALCF/train-gpt3.sh" ;;
        *) longseq_refuse "unknown argument $1: arguments for the trainer go after --" ;;
    esac
    shift
done

longseq_find_machine
if [[ " ${extra[*]-} " == *' --help '* || " ${extra[*]-} " == *' -h '* ]]; then
    longseq_load_modules
    longseq_find_python
    PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1 exec "$LONGSEQ_BASE_PYTHON" -m longseq check --help
fi
if [[ $LONGSEQ_NODE == login ]]; then
    [[ -z $LONGSEQ_JOB_UNKNOWN ]] || longseq_refuse_unknown # a node of one's own job looks like this
    exec "$LONGSEQ_ROOT/ALCF/submit.sh" -- ${extra[@]+"${extra[@]}"}
fi
longseq_setup
longseq_tell_untried
longseq_tell_of_submission
longseq_args ${extra[@]+"${extra[@]}"}
if longseq_only_plans; then
    longseq_plan show ${extra[@]+"${extra[@]}"}
    exit 0
fi
longseq_launch_command
if ((LONGSEQ_VALUE[DRY_RUN])); then
    longseq_note "${LONGSEQ_NOTES[@]}"
else
    longseq_note "${LONGSEQ_NOTES[0]}" # the model's name and why; the run itself says the rest
fi
repeat=("$LONGSEQ_ROOT/ALCF/train-gpt3.sh") # what RUN/command.sh runs: the same settings, a run of its own
((${#extra[@]} == 0)) || repeat+=(-- "${extra[@]}")

checking() { # checking PYTHON [--dry-run]: sets check, the command that finds what can be wrong before a rank starts
    local REPLY
    longseq_key_to_keep # for RUN/command.sh, which may be called on another number of GPUs
    check=(
        env "PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 "MODEL_SIZE_KEY=$REPLY"
        "$1" -m longseq check "${@:2}" --world-size "$LONGSEQ_RANKS" "${LONGSEQ_ARGS[@]}" -- "${repeat[@]}"
    )
}

check_and_prepare() { # data are prepared for minutes, in which it may be told to stop
    local status=0 LONGSEQ_SIGNALS=(INT:1=TERM)
    checking "$LONGSEQ_PYTHON"
    longseq_supervise "${check[@]}" || status=$?
    ! longseq_ended_as_told "$status" || status=75
    ((status == 0)) || exit "$status"
}

# shellcheck disable=SC2329 # called by longseq_answer
print_all() { # print_all DS_CONFIG: what a dry run shows
    longseq_print_machine
    [[ -z $LONGSEQ_HOSTS_FROM ]] || printf '# hosts.txt\n%s\n' "$(longseq_host_file)"
    printf '# ds_config.json\n%s\n# command\n' "$1"
    longseq_print_command "${LONGSEQ_COMMAND[@]}"
}

if ((LONGSEQ_VALUE[DRY_RUN])) || ! longseq_is_installed base; then
    # Before an installation of minutes, and where nothing may be touched: any Python will do
    ds_config=$(
        export PYTHONDONTWRITEBYTECODE=1
        checking "$LONGSEQ_BASE_PYTHON" --dry-run
        "${check[@]}"
    )
    ((! LONGSEQ_VALUE[DRY_RUN])) || longseq_answer print_all "$ds_config"
    [[ -z ${LONGSEQ_JOB-} ]] || longseq_refuse "the environment $LONGSEQ_VENV has changed since this job was\
 submitted: submit it again"
    (cd -- "$LONGSEQ_ROOT" && ./install.sh) # pip, too, would take a module of the folder one works in
fi
end() { # end CODE: with that exit code, unless the run can go on without a host that has failed
    local code=$1
    ended=$1
    trap stopped INT TERM HUP USR1
    LONGSEQ_TOLD=${LONGSEQ_TOLD-}$told # who is told to stop does not go on without a host
    longseq_remove_local
    if longseq_may_be_a_hosts "$code"; then
        # Where no rank was started, the preflight has looked at all of them
        [[ ! -e $LONGSEQ_RUN/hosts.txt ]] || longseq_find_failed "$code"
        if [[ -n ${LONGSEQ_FAILED[*]-} ]]; then
            code=$LONGSEQ_EXIT_BAD_HOST
            ! longseq_may_go_on ${extra[@]+"${extra[@]}"} || longseq_go_on ${extra[@]+"${extra[@]}"}
        fi
    fi
    exit "$code"
}

longseq_check_temporary
check_and_prepare
status=0
longseq_preflight || status=$?
((status != 75)) || stopped
((status == 0)) || end "$status"
longseq_know_end
trap longseq_remove_local EXIT
longseq_broadcast || stopped
longseq_launch_command # now: hosts may have been left out, the launcher may have come with the environment
longseq_prepare_launch
longseq_keep_screen
longseq_run || status=$?
trap 'told=1' INT TERM HUP USR1 # ranks may still save, half a minute at most, and say how it ended
longseq_finish "$status"
end "$REPLY"
