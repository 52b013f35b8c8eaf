#!/usr/bin/env bash
# Jobs, chains and runs: what they wait for, how far they are. For a login node: needs a Python and
# nothing else.
#
# Usage: ./ALCF/status.sh [--all] [FOLDER]
#
#   FOLDER  parent of the runs' folders; else OUTPUT_DIR, else outputs/
#   --all   all of them, not the newest 10 of each alone
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"

words=() folder=${OUTPUT_DIR:-$LONGSEQ_ROOT/outputs}
while (($#)); do
    case $1 in
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        --all) words+=("$1") ;;
        -*) longseq_refuse "unknown option $1: ./ALCF/status.sh --help" ;;
        *) folder=$1 ;;
    esac
    shift
done
if [[ ! -e $folder && -z ${OUTPUT_DIR-} && $folder == "$LONGSEQ_ROOT/outputs" ]]; then
    longseq_say "no job and no run yet in $folder"
    exit 0
fi
longseq_find_machine
# Modules of a site take long to load, and are seldom needed for this
if ! longseq_find_python 2>/dev/null; then
    longseq_load_modules
    longseq_find_python
fi
PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    exec "$LONGSEQ_BASE_PYTHON" -m longseq status ${words[@]+"${words[@]}"} "$folder"
