# shellcheck shell=bash
# Sourced by submit.sh: the folder of a job, with all that it will read, and the chain of its jobs.
#   jobs/NAME/settings.sh   every variable that the run depends on, as it is now
#   jobs/NAME/tree/         the code as it is now
#   jobs/NAME/job.sh        what the scheduler runs: tree/ALCF/job.sh on this folder
#   jobs/NAME/jobs.txt      the scheduler's numbers
#   jobs/NAME/runs.txt      the runs' folders, written by the jobs; stopped.txt: why no further job does anything

longseq_unfreeze() { # unsets what the shell of a job has set of the variables that settings.sh keeps
    local name
    for name in $(compgen -e); do
        longseq_others "$name" job || continue
        longseq_others "$name" own || unset "$name"
    done
}

longseq_absolute() { # longseq_absolute PATH: sets REPLY to it, from here
    REPLY=$1
    [[ -z $1 || $1 == /* ]] || REPLY=$PWD/$1
}

longseq_print_settings() { # the variables that the run depends on; ours that are not set now are unset in the job
    local name data=${DATA_PATH:-$LONGSEQ_ROOT/data/NC_001416.1.fa} key=${MODEL_SIZE_KEY-} REPLY
    [[ ${LONGSEQ_TASK-train} != use ]] || data=
    # submit.sh's options are not exported
    for name in "${LONGSEQ_VARIABLES[@]%%|*}"; do
        [[ -z ${!name-} ]] || export "${name?}"
    done
    if [[ ${LONGSEQ_TASK-train} == train ]]; then # the others refuse one
        longseq_key_to_keep
        key=$REPLY
    fi
    longseq_clock "$LONGSEQ_SECONDS"
    # What was found out here shall not be found otherwise there. -I: whatever PYTHONPATH holds is a setting
    # to keep, not a place to look
    WALLTIME=$REPLY MODEL_SIZE_KEY=$key MACHINE=$LONGSEQ_MACHINE PYTHON=$LONGSEQ_BASE_PYTHON \
        DATA_PATH=$data OUTPUT_DIR=${OUTPUT_DIR:-$LONGSEQ_ROOT/outputs} \
        "$LONGSEQ_BASE_PYTHON" -I "$LONGSEQ_ROOT/longseq/host/variables.py"
}

longseq_tell_of_keys() { # a key is in no file, so the job cannot have it from here
    local line name
    line=$(grep '^# left out' "$LONGSEQ_JOB/settings.sh") || return 0
    for name in ${line#*: }; do
        case $name in
            WANDB_API_KEY) longseq_say "note: WANDB_API_KEY is not given to the job, as the scheduler would\
 save it: run \`wandb login\` once, which puts it into ~/.netrc; without that the job logs offline" ;;
            *) longseq_say "note: $name may be a key or a password, so it is not given to the job" ;;
        esac
    done
}

longseq_freeze() { # longseq_freeze [EXTRA...]: makes the job's folder, LONGSEQ_JOB, of what LONGSEQ_TASK says: train, bench, use
    local parent name=${LONGSEQ_NAMED:-${LONGSEQ_VALUE[MODEL_SIZE_KEY]}} status=0
    longseq_absolute "${LONGSEQ_VALUE[OUTPUT_DIR]:-$LONGSEQ_ROOT/outputs}"
    parent=$REPLY/jobs
    [[ $LONGSEQ_TASK != use ]] || name=$1
    printf -v name '%s_%(%Y%m%d-%H%M%S)T_%d' "$name" -1 $$
    LONGSEQ_JOB=$parent/$name
    mkdir -p -- "$parent" 2>/dev/null || :
    mkdir -- "$LONGSEQ_JOB" "$LONGSEQ_JOB/tree" 2>/dev/null ||
        longseq_refuse "the job's folder cannot be made in $parent: set OUTPUT_DIR to a folder that you can write to" ||
        return
    longseq_fill_job "$@" || status=$?
    if ((status)); then
        rm -rf -- "$LONGSEQ_JOB"
        return "$status"
    fi
    longseq_tell_of_keys
}

longseq_not_kept() { # longseq_not_kept WHAT: of what the job will read
    longseq_say "$1 cannot be copied to ${LONGSEQ_JOB%/*}: free some room there, or set OUTPUT_DIR to a folder with room"
    return "$LONGSEQ_EXIT_NO_ROOM"
}

longseq_commit() { # prints the commit of this tree, and how many files differ from it; nothing where that is unknown
    local top commit
    top=$(git -C "$LONGSEQ_ROOT" rev-parse --show-toplevel 2>/dev/null) && [[ $top == "$LONGSEQ_ROOT" ]] || return 0
    commit=$(git -C "$LONGSEQ_ROOT" rev-parse HEAD 2>/dev/null) || return 0
    printf '%s %d\n' "$commit" "$(git -C "$LONGSEQ_ROOT" status --porcelain --untracked-files=no 2>/dev/null | wc -l)"
}

longseq_fill_job() { # longseq_fill_job [EXTRA...]: puts all that the job will read into its folder
    local part settings given='' why=''
    for part in ALCF longseq longseq.sh install.sh pretrain_gpt.py constraints.txt pyproject.toml; do
        cp -R -- "$LONGSEQ_ROOT/$part" "$LONGSEQ_JOB/tree/" 2>/dev/null || longseq_not_kept "$part" || return
    done
    { longseq_commit >"$LONGSEQ_JOB/tree/commit.txt"; } 2>/dev/null || longseq_not_kept commit.txt || return
    ln -s -- "$(readlink -f -- "$LONGSEQ_ROOT/venvs")" "$LONGSEQ_JOB/tree/venvs" 2>/dev/null ||
        longseq_not_kept venvs || return
    if [[ -n ${DS_CONFIG-} ]]; then
        cp -- "$DS_CONFIG" "$LONGSEQ_JOB/ds_config.json" 2>/dev/null || longseq_not_kept "$DS_CONFIG" || return
        DS_CONFIG=$LONGSEQ_JOB/ds_config.json
    fi
    settings=$(longseq_print_settings) || return # Python has said why
    [[ $LONGSEQ_TASK != train || -z ${LONGSEQ_MODEL_FROM-} ]] || printf -v why 'export LONGSEQ_MODEL_FROM=%q\n' "$LONGSEQ_MODEL_FROM"
    (($# == 0)) || printf -v given ' %q' "$@"
    { printf '# The settings of this job, frozen at %(%Y-%m-%d %H:%M:%S)T\n%s\n%stask=%s from=%q extra=(%s )\n' \
        -1 "$settings" "$why" "$LONGSEQ_TASK" "$PWD" "$given" >"$LONGSEQ_JOB/settings.sh"; } 2>/dev/null ||
        longseq_not_kept settings.sh || return
    { printf '#!/bin/bash\nexec /bin/bash %q %q\n' "$LONGSEQ_JOB/tree/ALCF/job.sh" "$LONGSEQ_JOB" >"$LONGSEQ_JOB/job.sh" &&
        chmod +x -- "$LONGSEQ_JOB/job.sh"; } 2>/dev/null || longseq_not_kept job.sh
}

longseq_after() { # longseq_after JOB: sets LONGSEQ_AFTER, the options that make a job wait for that one's end
    LONGSEQ_AFTER=()
    [[ -n $1 ]] || return 0
    case $LONGSEQ_SCHEDULER in # any end: a job that stopped early has not "succeeded"
        pbs) LONGSEQ_AFTER=(-W "depend=afterany:$1") ;;
        slurm) LONGSEQ_AFTER=("--dependency=afterany:$1") ;;
        cobalt) LONGSEQ_AFTER=(--dependencies "$1") ;;
    esac
}

longseq_job_number() { # longseq_job_number TEXT: sets REPLY to the last line of it that is one; empty: none
    # 123, Slurm's 123;CLUSTER, PBS's 123.SERVER and 123[].SERVER; a site's program may say more before or after it
    local line form='^[[:space:]]*([0-9]+(\[\])?(\.[A-Za-z0-9._-]+)?)(;[A-Za-z0-9._-]+)?[[:space:]]*$'
    REPLY=
    while IFS= read -r line; do
        [[ ! $line =~ $form ]] || REPLY=${BASH_REMATCH[1]}
    done <<<"$1"
}

longseq_tell_job() { # longseq_tell_job LINE: on standard output, else on standard error; that neither can be written stops nothing
    { printf '%s\n' "$1"; } 2>/dev/null || longseq_say "$1" || :
}

longseq_submit_chain() { # longseq_submit_chain JOBS: in the job's folder, where schedulers leave their own files
    local number id='' ids=() said clean=()
    # Slurm gives a job the whole environment and saves it, keys and all: it gets what a login has
    for number in PATH HOME USER LOGNAME SHELL LANG SLURM_CONF PBS_CONF_FILE PBS_DEFAULT PBS_SERVER; do
        [[ -z ${!number-} ]] || clean+=("$number=${!number}")
    done
    longseq_scheduler_settings
    clean+=(${LONGSEQ_SETTINGS[@]+"${LONGSEQ_SETTINGS[@]}"})
    trap '' PIPE # whoever reads the numbers may end before the chain does
    for ((number = 1; number <= $1; number++)); do
        longseq_after "$id"
        said=$(trap - PIPE && cd -- "$LONGSEQ_JOB" && env -i "${clean[@]}" "${LONGSEQ_REQUEST[@]}" \
            ${LONGSEQ_AFTER[@]+"${LONGSEQ_AFTER[@]}"} job.sh) || {
            local status=$?
            longseq_say "$LONGSEQ_QSUB failed with status $status at job $number of $1${id:+; those before it are submitted: ${ids[*]}}"
            return "$status"
        }
        longseq_job_number "$said"
        # Without it the next job would not wait for this one, and two would be at work in one folder
        [[ -n $REPLY ]] || {
            longseq_say "$LONGSEQ_QSUB ended with status 0 at job $number of $1 and printed no job's number, so no more\
 are submitted${id:+ than ${ids[*]}}; look whether that one is in the queue. It printed: \"${said:0:300}\""
            return 1
        }
        id=$REPLY ids+=("$REPLY")
        longseq_tell_job "submitted $id ($number of $1)"
        { printf '%s\n' "$id" >>"$LONGSEQ_JOB/jobs.txt"; } 2>/dev/null ||
            longseq_say "$LONGSEQ_JOB/jobs.txt cannot be written (a full disk? a quota?), so it lacks job $id" || :
    done
    longseq_tell_job "its output, settings and runs: $LONGSEQ_JOB"
}
