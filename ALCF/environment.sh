# shellcheck shell=bash
# Sourced by setup.sh: which Python, and which environment of ours stands on it.
#   LONGSEQ_BASE_PYTHON, LONGSEQ_PYTHON_VERSION   the machine's Python
#   LONGSEQ_VENV, LONGSEQ_PYTHON                  the environment's folder, and its Python

LONGSEQ_VERSIONS= # a digest of the packages that an environment is made of, once it is needed

longseq_python_version() { # longseq_python_version PYTHON: prints 3.11.7, nothing if it does not run
    local text
    text=$("$1" --version 2>/dev/null) || return
    printf '%s' "${text#Python }"
}

longseq_find_python() { # sets LONGSEQ_BASE_PYTHON and LONGSEQ_PYTHON_VERSION: 3.10 to 3.13
    local candidate version seen='' entry entries path=''
    # There no Python of pyenv's starts, and none finds the names that it is given
    [[ -e . && (. -ef $PWD || $(readlink /proc/self/cwd 2>/dev/null) != *' (deleted)') ]] || # or moved
        longseq_refuse "this folder, ${PWD-}, is gone: cd to one that is there" || return
    # No environment of ours, should one be activated: made anew it would remove itself
    IFS=: read -r -a entries <<<"$PATH"
    for entry in "${entries[@]}"; do
        [[ -f ${entry%/*}/pyvenv.cfg && -f ${entry%/*}/install.log ]] || path+=${path:+:}$entry
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
    # The plain name. Where a finished environment of other versions has it, one with the versions in its name: to
    # make that anew would take it away from runs, and from jobs in the queue, that stand on it.
    local name=python${LONGSEQ_PYTHON_VERSION%.*} venvs=$LONGSEQ_ROOT/venvs device=${LONGSEQ_DEVICE:-cpu} plain own made=0
    local candidate candidates
    [[ ! -L $venvs || -d $venvs ]] || longseq_refuse "$venvs is a link to $(readlink -- "$venvs"), which is gone: make\
 that folder, or remove the link" || return
    if [[ -n ${CONDA_PREFIX-} && $LONGSEQ_BASE_PYTHON == "$CONDA_PREFIX"/* ]]; then
        name=$(cksum <<<"$CONDA_PREFIX") # releases of a site's conda all have the same last name
        name=conda-${CONDA_PREFIX##*/}-${name%% *}
    fi
    # Where it really lies: a job's frozen tree, which has a link to venvs, stands on the same environment
    plain=$(readlink -m -- "$venvs/$LONGSEQ_MACHINE/${name//[!A-Za-z0-9._-]/_}") || return
    longseq_use_environment "$plain"
    for candidate in "$plain"/installed-base.txt "$plain"-*/installed-base.txt; do
        [[ ! -f $candidate ]] || made=1
    done
    ((made)) || return 0
    longseq_digest_versions || return
    own=$plain-${LONGSEQ_VERSIONS::8}
    candidates=("$plain" "$own-$device")
    [[ $device != cpu ]] || candidates=("$plain" "$own" "$own-cuda") # one for GPUs serves where none is in sight
    for candidate in "${candidates[@]}"; do
        longseq_use_environment "$candidate"
        ! longseq_is_installed base || return 0
    done
    longseq_use_environment "$plain"
    longseq_is_free || longseq_use_environment "${candidates[1]}"
}

longseq_find_finished() { # the same for what needs no ranks: that one, or else one of other versions
    longseq_find_environment || return
    longseq_is_finished || longseq_use_environment "${LONGSEQ_VENV%-"${LONGSEQ_VERSIONS::8}"*}"
    longseq_is_finished || longseq_refuse "there is no environment in $LONGSEQ_VENV yet: $LONGSEQ_ROOT/install.sh makes it"
}

longseq_is_finished() { # is LONGSEQ_VENV an environment that works, whatever its versions?
    [[ -x $LONGSEQ_PYTHON && -f $LONGSEQ_VENV/installed-base.txt ]]
}

longseq_use_environment() { # longseq_use_environment FOLDER
    LONGSEQ_VENV=$1 LONGSEQ_PYTHON=$1/bin/python
}

longseq_is_free() { # is no finished environment in LONGSEQ_VENV? What was moved here works for nobody
    local made
    longseq_is_finished || return 0
    IFS= read -r made <"$LONGSEQ_VENV/installed-base.txt" && [[ $made != "folder $LONGSEQ_VENV" ]]
}

longseq_digest_versions() { # sets LONGSEQ_VERSIONS: which packages an environment is made of
    local sums
    [[ -z $LONGSEQ_VERSIONS ]] || return 0
    # Of pyproject.toml what is installed alone: settings of the linters change nothing
    sums=$(set -o pipefail && {
        cat -- "$LONGSEQ_ROOT/constraints.txt" &&
            sed -n -e '/^dependencies = /,/^\[project.scripts\]/p' -- "$LONGSEQ_ROOT/pyproject.toml"
    } | sha256sum) || {
        longseq_say "$LONGSEQ_ROOT/constraints.txt, what the environment is made of, cannot be read: nothing is changed"
        return 1
    }
    LONGSEQ_VERSIONS=${sums%% *}
}

longseq_stamp() { # longseq_stamp [DEVICE]: what a finished environment was made from
    # Neither the path of Python nor its last number: another one of the same version may be first on PATH now
    longseq_digest_versions || return
    printf 'folder %s\npython %s\ndevice %s\nversions %s\n' "$LONGSEQ_VENV" \
        "${LONGSEQ_PYTHON_VERSION%.*}" "${1:-${LONGSEQ_DEVICE:-cpu}}" "$LONGSEQ_VERSIONS"
}

longseq_is_installed() { # longseq_is_installed base|test: is that part of the environment finished?
    local file=$LONGSEQ_VENV/installed-$1.txt found
    [[ -x $LONGSEQ_PYTHON && -f $file ]] || return 1
    # A file system that fails for a moment is no "no": that would have it made anew
    if ! found=$(cat -- "$file"); then
        longseq_say "what the environment $LONGSEQ_VENV was made from cannot be read: nothing is changed"
        [[ -z $LONGSEQ_BY_HAND ]] || return 3
        exit 1
    fi
    # One made for GPUs serves where none is in sight, such as on a login node
    [[ $found == "$(longseq_stamp)" || $found == "$(longseq_stamp cuda)" ]]
}
