#!/usr/bin/env bash
# What needs no ranks, in the environment that ALCF/train-gpt3.sh trains in, from any folder.
#
# Usage: ./longseq.sh VERB [ARGUMENT ...]
#
#   ./longseq.sh --help            lists the verbs;  ./longseq.sh VERB --help explains one
#   ./longseq.sh report outputs/*  from a job's host, a login node or a laptop alike
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"

longseq_find_machine
longseq_load_modules
longseq_find_python
longseq_find_finished
# A random.py in the folder where one works is not Python's (from 3.11 on)
export PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
exec "$LONGSEQ_PYTHON" -m longseq "$@"
