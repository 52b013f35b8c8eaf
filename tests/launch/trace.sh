# shellcheck shell=bash
# BASH_ENV of the scripts under test: writes every line that runs to a file of this process's own, for
# coverage.py. Changes nothing that a script could see, but the descriptor and set -x.
if [[ -n ${BASH_COVERAGE-} && -d $BASH_COVERAGE ]]; then
    exec {BASH_XTRACEFD}>>"$BASH_COVERAGE/$$.trace"
    PS4='+${BASH_SOURCE[0]-}|${LINENO}|'
    set -x
fi
