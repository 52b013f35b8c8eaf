# shellcheck shell=bash
# Sourced by every entry point: the table of variables (variables.sh), which machine (machine.sh), which job
# (own_job.sh), which Python, what the ranks compute on (gpus.sh), how many hosts and ranks (hosts.sh). Defines
# functions, exports LC_ALL, and sets no shell options. What those of this file set:
#   LONGSEQ_BASE_PYTHON             the machine's Python that the environment stands on
#   LONGSEQ_VENV, LONGSEQ_PYTHON    our environment's folder, and its Python
# LONGSEQ_ROOT, the repository's folder, is set by whoever sources this file. Where it is not set, a person has
# typed `source ALCF/setup.sh`: then this activates the environment in that shell.

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

# ---------------------------------------------------------------- Python and environment

longseq_python_version() { # longseq_python_version PYTHON: prints 3.11.7, nothing if it does not run
    local text
    text=$("$1" --version 2>/dev/null) || return
    printf '%s' "${text#Python }"
}

longseq_find_python() { # sets LONGSEQ_BASE_PYTHON and LONGSEQ_PYTHON_VERSION: 3.10 to 3.13
    local candidate version seen='' entry entries path='' venvs
    # Not the environment that stands on it, should that be activated: made anew it would remove itself.
    # A job's frozen tree has a link to the folder.
    venvs=$(readlink -f -- "$LONGSEQ_ROOT/venvs") || venvs=$LONGSEQ_ROOT/venvs
    IFS=: read -r -a entries <<<"$PATH"
    for entry in "${entries[@]}"; do
        [[ $entry == "$LONGSEQ_ROOT"/venvs/* || $entry == "$venvs"/* ]] || path+=${path:+:}$entry
    done
    local PATH=$path
    local candidates=(python3 python3.13 python3.12 python3.11 python3.10)
    [[ -n ${CONDA_PREFIX-} ]] && candidates=("$CONDA_PREFIX/bin/python3" "${candidates[@]}")
    [[ -n ${PYTHON-} ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        version=$(longseq_python_version "$candidate") || continue
        if [[ $version =~ ^3\.1[0-3]\. ]]; then
            LONGSEQ_BASE_PYTHON=$(command -v -- "$candidate")
            # A job that is told of it starts in another folder
            [[ $LONGSEQ_BASE_PYTHON == /* ]] || LONGSEQ_BASE_PYTHON=$PWD/$LONGSEQ_BASE_PYTHON
            LONGSEQ_PYTHON_VERSION=$version
            return 0
        fi
        seen+=" $candidate=$version"
    done
    longseq_refuse "no Python 3.10 to 3.13 found (${PYTHON:+PYTHON=$PYTHON; }seen:${seen:- none}): install\
 one, or set PYTHON to its path"
}

longseq_find_environment() { # sets LONGSEQ_VENV and LONGSEQ_PYTHON, in install.sh and afterwards alike
    local name=python${LONGSEQ_PYTHON_VERSION%.*} venvs=$LONGSEQ_ROOT/venvs
    [[ ! -L $venvs || -d $venvs ]] || longseq_refuse "$venvs is a link to $(readlink -- "$venvs"), which is gone: make\
 that folder, or remove the link" || return
    [[ ! -L $venvs ]] || venvs=$(readlink -f -- "$venvs") # a job's frozen tree stands on the same environment
    if [[ -n ${CONDA_PREFIX-} && $LONGSEQ_BASE_PYTHON == "$CONDA_PREFIX"/* ]]; then
        name=$(cksum <<<"$CONDA_PREFIX") # releases of a site's conda all have the same last name
        name=conda-${CONDA_PREFIX##*/}-${name%% *}
    fi
    LONGSEQ_VENV=$venvs/$LONGSEQ_MACHINE/${name//[!A-Za-z0-9._-]/_}
    LONGSEQ_PYTHON=$LONGSEQ_VENV/bin/python
}

longseq_stamp() { # longseq_stamp [DEVICE]: what a finished environment was made from
    local sums
    # Of pyproject.toml what is installed alone: settings of the linters change nothing
    sums=$(set -o pipefail && {
        cat -- "$LONGSEQ_ROOT/constraints.txt" &&
            sed -n '/^dependencies = /,/^\[project.scripts\]/p' -- "$LONGSEQ_ROOT/pyproject.toml"
    } | sha256sum) || return
    # Neither the path of Python nor its last number: another one of the same version may be first on PATH now, and
    # to make the environment anew would take it away from runs that are under way
    printf 'folder %s\npython %s\ndevice %s\nversions %s\n' "$LONGSEQ_VENV" \
        "${LONGSEQ_PYTHON_VERSION%.*}" "${1:-$LONGSEQ_DEVICE}" "${sums%% *}"
}

longseq_is_installed() { # longseq_is_installed base|test: is that part of the environment finished?
    local file=$LONGSEQ_VENV/installed-$1.txt found stamp for_gpus
    [[ -x $LONGSEQ_PYTHON && -f $file ]] || return 1
    # A file system that fails for a moment is no "no": that would take the environment away from runs under way
    if ! { found=$(cat -- "$file") && stamp=$(longseq_stamp) && for_gpus=$(longseq_stamp cuda); }; then
        longseq_say "what the environment $LONGSEQ_VENV was made from cannot be read: nothing is changed"
        exit 1
    fi
    # One made for GPUs serves where none is in sight, such as on a login node
    [[ $found == "$stamp" || $found == "$for_gpus" ]]
}

# ---------------------------------------------------------------- all of it

longseq_setup() { # everything above, in order
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
    longseq_find_machine && longseq_prepare_machine && longseq_find_python || return
    longseq_find_environment || return
    if [[ ! -x $LONGSEQ_PYTHON || ! -f $LONGSEQ_VENV/installed-base.txt ]]; then
        longseq_say "there is no environment in $LONGSEQ_VENV yet: $LONGSEQ_ROOT/install.sh makes it"
        return 2
    fi
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
source "$LONGSEQ_ROOT/ALCF/gpus.sh"
source "$LONGSEQ_ROOT/ALCF/hosts.sh"
[[ -z $LONGSEQ_BY_HAND ]] || longseq_by_hand
