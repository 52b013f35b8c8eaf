# shellcheck shell=bash
# Sourced by every entry point: the table of variables (variables.sh), which machine (machine.sh), which job
# (own_job.sh), which Python and which environment (environment.sh), what the ranks compute on (gpus.sh), how many
# hosts and ranks (hosts.sh). Defines functions, exports LC_ALL, and sets no shell options.
# LONGSEQ_ROOT, the repository's folder, is set by whoever sources this file. Where it is not set, a person has
# typed `source ALCF/setup.sh`: then this activates the environment in that shell.

[ -n "${BASH_VERSION-}" ] || {
    echo 'longseq: ALCF/setup.sh is for bash; in this shell: . venvs/MACHINE/PYTHON/bin/activate' >&2
    return 2
}

longseq_plain_letters() { # exports LC_ALL: what a pattern means must not hang on the user's language
    # In Turkish [A-Za-z] leaves out i and I, and the capital of i is none of ASCII: valid names would be
    # refused, and keys let through. What is called from here (sed, awk, date) reads patterns and numbers too.
    local letter=$'\303\274'
    export LC_ALL=C
    { LC_ALL=C.UTF-8; } 2>/dev/null
    ((${#letter} == 1)) || LC_ALL=C # an old glibc has no C.UTF-8; Python takes UTF-8 in C as well
}

longseq_say() { # longseq_say TEXT: one line to stderr
    printf 'longseq: %s\n' "${1//[[:cntrl:]]/?}" >&2
}

longseq_refuse() { # longseq_refuse TEXT: the user's mistake; one line to stderr, status 2
    longseq_say "$1"
    return 2
}

longseq_is_count() { # longseq_is_count TEXT: a whole number from 1 that bash can calculate with
    [[ $1 =~ ^[1-9][0-9]{0,8}$ ]]
}

longseq_note() { # longseq_note TEXT...: lines for standard error, which on a terminal break between words
    local columns=1000
    [[ ! -t 2 ]] || columns=$(tput cols 2>/dev/null) || columns=80
    printf '%s\n' "$@" | fold -s -w "$columns" >&2
}

longseq_help() { # longseq_help FILE: prints the comment that FILE begins with, at a terminal's width
    local line columns=1000
    [[ ! -t 1 ]] || columns=$(tput cols 2>/dev/null) || columns=80
    while IFS= read -r line; do
        [[ $line == '#'* ]] || break
        line=${line#'#'}
        [[ $line == '!'* ]] || printf '%s\n' "${line# }"
    done <"$1" | fold -s -w "$columns"
}

longseq_answer() { # longseq_answer FUNCTION [ARGUMENT ...]: ends with what it prints, also where nobody can read that
    # In silence: bash would name each line that it could not write
    if "$@" 2>/dev/null; then
        exit 0
    fi
    longseq_say 'standard output cannot be written: it is closed or full'
    exit "$LONGSEQ_EXIT_NO_ROOM"
}

# ---------------------------------------------------------------- all of it

longseq_setup() { # everything above, in order
    longseq_check_alone || return
    [[ -n ${LONGSEQ_MACHINE-} ]] || longseq_find_machine || return
    longseq_prepare_machine || return
    longseq_count_devices || return
    longseq_find_python || return
    longseq_find_environment || return
    longseq_find_hosts || return
    longseq_leave_out || return
    longseq_bad_last
    longseq_count_ranks || return
    longseq_tell_bad
}

longseq_activate() { # for a person's shell, where nothing may end it: our environment's programs on the path
    local LC_ALL=C   # that shell keeps its own (longseq_plain_letters)
    longseq_find_machine && longseq_prepare_machine && longseq_find_python && longseq_find_finished || return
    # shellcheck source=/dev/null # made by Python
    source "$LONGSEQ_VENV/bin/activate"
    longseq_say "$LONGSEQ_VENV is active; \`deactivate\` leaves it"
}

longseq_by_hand() {
    local status=0
    longseq_activate || status=$?
    unset LONGSEQ_ROOT # so that this works a second time
    return "$status"
}

LONGSEQ_BY_HAND=
if [[ -z ${LONGSEQ_ROOT-} ]]; then
    LONGSEQ_BY_HAND=1 LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}") LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
fi
[[ -n $LONGSEQ_BY_HAND ]] || longseq_plain_letters
source "$LONGSEQ_ROOT/ALCF/variables.sh"
source "$LONGSEQ_ROOT/ALCF/machine.sh"
source "$LONGSEQ_ROOT/ALCF/chain.sh"
source "$LONGSEQ_ROOT/ALCF/own_job.sh"
source "$LONGSEQ_ROOT/ALCF/environment.sh"
source "$LONGSEQ_ROOT/ALCF/gpus.sh"
source "$LONGSEQ_ROOT/ALCF/hosts.sh"
[[ -z $LONGSEQ_BY_HAND ]] || longseq_by_hand
