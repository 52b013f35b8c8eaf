# shellcheck shell=bash
# Sourced by install.sh: how its steps are run and shown, and how they call pip.

tell() { # tell TEXT: a remark of the running step, shown below its line
    printf '%s\n' "$1" | tee -a "$LONGSEQ_VENV/remarks.txt"
}

step() { # step TITLE FUNCTION: runs it with its output in the log; any failure ends the installation
    local title=$1 begin=$SECONDS status line
    shift
    steps=$((steps + 1))
    printf '[%d/%d] %s … ' "$steps" "$steps_all" "$title"
    printf '\n==== %s\n' "$title" >>"$log"
    : >"$LONGSEQ_VENV/remarks.txt"
    # No `if` or `||` around it: they would turn `set -e` off inside. A group of its own: a signal ends all of it
    set +e -m
    (
        set -e
        "$@"
    ) >>"$log" 2>&1 </dev/null &
    step=$!
    set +m
    wait "$step"
    status=$?
    step=
    set -e
    ((status == 0)) && printf '%d s\n' $((SECONDS - begin)) || printf 'failed\n'
    while IFS= read -r line; do printf '      %s\n' "$line"; done <"$LONGSEQ_VENV/remarks.txt"
    ((status == 0)) && return
    printf '      %s\n' "The end of the log:" >&2
    tail -n 12 "$log" | cut -c 1-300 | sed 's/^/      | /' >&2
    longseq_say "installation failed at \"$title\"; the whole log is $log. Run ./install.sh again once it is mended."
    exit 1
}

end_step() { # end_step SIGNAL: pip and compilers would go on, and hold the lock
    trap '' INT TERM HUP
    [[ -z $step ]] || {
        kill -TERM -- "-$step"
        wait "$step"
    } 2>/dev/null
    trap - "$1"
    kill "-$1" $$
}

pip_install() { # pip_install ARGUMENT...: pip install with our pins
    run_pip install -c "$LONGSEQ_VENV/constraints.txt" "$@"
}

run_pip() { # run_pip COMMAND ARGUMENT...: pip, from the folder of --offline where one is given
    local offline=()
    [[ -z $wheels ]] || offline=(--no-index --find-links "$wheels")
    # What a killed pip leaves, tens of MiB a time, goes with the unfinished environment
    mkdir -p -- "$LONGSEQ_VENV/tmp"
    TMPDIR=$LONGSEQ_VENV/tmp "$LONGSEQ_PYTHON" -m pip "$1" --disable-pip-version-check --no-input \
        ${offline[@]+"${offline[@]}"} "${@:2}"
}

requirements() { # requirements [EXTRA]: prints pyproject.toml's requirements, one a line
    "$LONGSEQ_PYTHON" - "$LONGSEQ_ROOT/pyproject.toml" "${1-}" <<'PYTHON'
import sys
try:
    import tomllib
except ImportError:  # Python 3.10: pip carries the same parser
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extra = sys.argv[2]
print("\n".join(project["optional-dependencies"][extra] if extra else project["dependencies"]))
PYTHON
}

pinned() { # pinned NAME: prints its version in the constraints
    sed -n "s/^$1==\([^ ;]*\).*/\1/p" "$LONGSEQ_VENV/constraints.txt" | head -n 1
}
