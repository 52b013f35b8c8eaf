#!/bin/bash
# A Python that only install.sh's tests know: makes "environments" of itself, and notes what pip
# was asked for in $NOTES. FAIL: pip fails for requests that hold this. SLOW: they take 30 s, or SLOW_SECONDS.
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
case "$*" in
    --version) echo "Python ${VERSION:-3.11.7}" ;;
    "-m venv "*)
        folder=${*: -1}
        mkdir -p "$folder/bin" "$folder/site"
        echo "venv $*" >>"$NOTES"
        cp -- "${BASH_SOURCE[0]}" "$folder/bin/python"
        ;;
    "-m pip install "*)
        shift 3
        asked="pip $* [PYTHONPATH=${PYTHONPATH-} ops=${DS_BUILD_CPU_ADAM-} TMPDIR=${TMPDIR-}]"
        echo "$asked" >>"$NOTES"
        [[ -z ${SLOW-} || $asked != *"$SLOW"* ]] || sleep "${SLOW_SECONDS:-30}"
        [[ -z ${FAIL-} || $asked != *"$FAIL"* ]] || exit 1
        if [[ "$*" == *mpich==* ]]; then
            # shellcheck disable=SC2016 # the script's own
            printf '%s\n' '#!/bin/sh' '[ "$1" = --version ] && echo HYDRA && exit' 'shift 2; "$@"; "$@"' \
                >"$here/mpiexec"
            chmod +x "$here/mpiexec"
        fi
        ;;
    "-m pip download "* | "-m pip wheel "*)
        echo "$3 ${*:4} [ops=${DS_BUILD_OPS-}]" >>"$NOTES"
        [[ -z ${FAIL-} || "$*" != *"$FAIL"* ]] || exit 1
        touch "$(dirname -- "$here")/tmp/wheels/$3.whl"
        ;;
    *Python.h*) echo "${MISSING:-0 0}" ;;
    *purelib*) echo "$(dirname -- "$here")/site" ;;
    *m.version*) echo "${CONDA_HAS-}" ;;
    "-c import flash_attn" | "-c import apex") exit 1 ;;
    *MPI.COMM_WORLD*) echo "sum ${SUM:-3}" ;;
    "-m longseq"*) echo "longseq ${*:3}" ;;
    "- "*) exec "$REAL" "$@" ;;
    -) cat >/dev/null ;;
    *) echo "fake python: $*" >&2 && exit 9 ;;
esac
