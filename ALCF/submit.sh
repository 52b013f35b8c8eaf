#!/usr/bin/env bash
# Submits a job that trains, or a chain of jobs that each go on from the last checkpoint: PBS, Cobalt,
# Slurm. Or one that measures, or that uses what was trained.
#
# Usage: [VARIABLE=value ...] ./ALCF/submit.sh [-q QUEUE] [-n NODES] [-t WALLTIME] [-A PROJECT]
#                                 [--chain JOBS] [--bench | --use] [--dry-run] [-- ARGUMENT ...]
#        [VARIABLE=value ...] ./ALCF/submit.sh QUEUE NODES WALLTIME PROJECT [-- ARGUMENT ...]
#                                 (as in 2023)
#
#   -q QUEUE      queue, partition or QOS          variable QUEUE
#   -n NODES      whole nodes                      variable NHOSTS (SPARE_NODES come on top)
#   -t WALLTIME   HH:MM:SS, 90m, 6h                variable WALLTIME
#   -A PROJECT    project or account               variable PROJECT
#   --chain JOBS  this many jobs, one after another: each goes on from the last checkpoint; the rest
#                 ends at once when training is done, or failed in a way that would repeat
#   --bench       measure in place of training: what is behind -- are options of ./ALCF/bench.sh
#   --use         ask a trained network in place of training: what is behind -- is a verb of
#                 ./ALCF/use.sh with its arguments, as -- score outputs/RUN genome.fa --output
#                 scores.tsv; names are relative to this folder
#   --dry-run     print what would be submitted, and touch nothing (or DRY_RUN=1)
#
# What cannot run, or what the site would refuse or drop, is refused here. The job reads its settings
# and its code from a folder of its own, jobs/NAME beside the runs' folders: editing the tree or the
# shell changes nothing. Exit code: 0 submitted, 2 a mistake in what was asked for, 73 no room on a
# disk, anything else the scheduler's.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/models.sh"
source "$LONGSEQ_ROOT/ALCF/args.sh"
source "$LONGSEQ_ROOT/ALCF/verb.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"
source "$LONGSEQ_ROOT/ALCF/queue.sh"
source "$LONGSEQ_ROOT/ALCF/freeze.sh"
source "$LONGSEQ_ROOT/ALCF/plan.sh"

chain='' extra=() positional=() LONGSEQ_TASK=train
while (($#)); do
    case $1 in
        -q | -n | -t | -A | --chain)
            (($# >= 2)) || longseq_refuse "$1 needs a value"
            case $1 in
                -q) QUEUE=$2 ;;
                -n) NHOSTS=$2 ;;
                -t) WALLTIME=$2 ;;
                -A) PROJECT=$2 ;;
                --chain) chain=$2 ;;
            esac
            shift
            ;;
        --dry-run) DRY_RUN=1 ;;
        --bench | --use)
            [[ $LONGSEQ_TASK == train || $LONGSEQ_TASK == "${1#--}" ]] ||
                longseq_refuse "--bench and --use exclude each other: give one"
            LONGSEQ_TASK=${1#--}
            ;;
        --) extra=("${@:2}") && break ;;
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        -*) longseq_refuse "unknown option $1: ./ALCF/submit.sh --help lists them; those of what the job runs go after --" ;;
        [A-Z]*=*) longseq_refuse "$1: variables go before the command: $1 ./ALCF/submit.sh" ;;
        *) positional+=("$1") ;;
    esac
    shift
done
if ((${#positional[@]})); then
    ((${#positional[@]} == 4)) || longseq_refuse "${positional[*]}: give -q QUEUE -n NODES -t WALLTIME -A PROJECT,\
 or these four without the letters, in this order"
    QUEUE=${positional[0]} NHOSTS=${positional[1]} WALLTIME=${positional[2]} PROJECT=${positional[3]}
fi
if [[ $LONGSEQ_TASK == use ]]; then
    [[ -z $chain ]] || longseq_refuse "--chain $chain with --use: one job does all of it, or none: leave --chain out"
    longseq_check_verb ${extra[@]+"${extra[@]}"}
    longseq_check_verb_of_job "${extra[@]}"
fi
chain=${chain:-1}
[[ $chain =~ ^[1-9][0-9]{0,2}$ ]] ||
    longseq_refuse "--chain $chain: give the number of jobs, from 1 to 999"

words=() # of the training, or of the verb
[[ $LONGSEQ_TASK == bench ]] || words=(${extra[@]+"${extra[@]}"})
longseq_submission ${words[@]+"${words[@]}"} # machine, queue, nodes, time, arguments: all that can be refused
longseq_tell_untried

ask() { # ask PYTHON WORD...: ./longseq.sh WORD..., for as many ranks as the job will have
    LONGSEQ_RANKS=$LONGSEQ_RANKS PYTHONPATH=$LONGSEQ_ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 \
        PYTHONSAFEPATH=1 "$1" -m longseq "${@:2}"
}

case $LONGSEQ_TASK in
    train)
        any_layout=
        ! longseq_seeks_layout || any_layout=--any-layout # the search replaces the one that there is
        ask "$LONGSEQ_BASE_PYTHON" check --dry-run ${any_layout:+"$any_layout"} --world-size "$LONGSEQ_RANKS" "${LONGSEQ_ARGS[@]}" >/dev/null
        longseq_note "${LONGSEQ_NOTES[@]}"
        ;;
    bench)
        said=$(ask "$LONGSEQ_BASE_PYTHON" bench --list ${extra[@]+"${extra[@]}"})
        printf 'bench     %s\n' "${said//$'\n'/$'\n'          }" >&2 # a run of each
        LONGSEQ_VALUE[PLAN]=0                                        # of one run
        ;;
    use)
        if longseq_is_installed base; then
            longseq_look_over "${extra[@]}"
        elif ((LONGSEQ_VALUE[DRY_RUN])); then
            longseq_say "note: what is behind -- is not looked at, as there is no finished environment here"
        else
            longseq_refuse "there is no finished environment yet: ./install.sh makes it"
        fi
        LONGSEQ_VALUE[PLAN]=0
        ;;
esac
if longseq_only_plans; then
    longseq_plan show ${extra[@]+"${extra[@]}"}
    exit 0
fi
if [[ ${LONGSEQ_VALUE[PLAN]} != 0 && -n $LONGSEQ_GPU ]]; then
    longseq_plan check >&2
fi
if ((LONGSEQ_VALUE[DRY_RUN])); then
    text=$(longseq_print_submission "$chain") behind=
    ((${#extra[@]} == 0)) || printf -v behind ' %q' "${extra[@]}"
    text+=${behind:+$'\n# behind --:'$behind}
    [[ $LONGSEQ_TASK != use ]] || text+=$'\n# names are relative to '$PWD
    longseq_answer printf '%s\n' "$text"
fi
command -v "$LONGSEQ_QSUB" >/dev/null || longseq_refuse "there is no $LONGSEQ_QSUB here: submit on a login node of\
 $LONGSEQ_MACHINE, or set MACHINE to the machine that this is"
longseq_is_installed base || (cd -- "$LONGSEQ_ROOT" && ./install.sh)
longseq_freeze ${extra[@]+"${extra[@]}"}
longseq_submit_chain "$chain"
