# shellcheck shell=bash
# Sourced: every host of a run is looked at before the ranks start, by one process on each, on GPUs by one for each
# GPU, bound as the run's ranks (longseq doctor).
# Needs setup.sh, args.sh, launch.sh, running.sh. longseq_preflight sets LONGSEQ_HOSTS anew where a bad host is left
# out, else LONGSEQ_FAILED (array) to the bad ones and LONGSEQ_FAILED_WHY to the reason.

longseq_probe_ranks() { # sets REPLY to the processes that look at a host
    REPLY=1
    [[ $LONGSEQ_DEVICE != cuda ]] || REPLY=$LONGSEQ_RANKS_PER_HOST # Intel's GPUs themselves are not looked at
}

longseq_probe() { # longseq_probe FOLDER SECONDS RANKS HOST...: RANKS processes on each of these hosts report into FOLDER
    # All that longseq_wrap reads and sets is this function's own
    # shellcheck disable=SC2034
    local folder=$1 seconds=$2 LONGSEQ_RUN=$1 LONGSEQ_RANKS=$((($# - 3) * $3)) LONGSEQ_RANKS_PER_HOST=$3 \
        OMP_NUM_THREADS=1 LONGSEQ_HOSTS=("${@:4}") LONGSEQ_LAUNCHER LONGSEQ_COMMAND LONGSEQ_SETTINGS
    local -x PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1
    local data=${LONGSEQ_VALUE[DATA_PATH]:-$LONGSEQ_ROOT/data/NC_001416.1.fa}
    longseq_wrap "$LONGSEQ_PYTHON" -m longseq doctor probe "$folder" "${LONGSEQ_DEVICE/xpu/cpu}" "$data" "$LONGSEQ_OUTPUT" || return
    longseq_host_file >"$folder/hosts.txt"
    timeout -k 5 "$seconds" env "LONGSEQ_PREFLIGHT=$seconds" "${LONGSEQ_COMMAND[@]}" \
        </dev/null >"$folder/launcher.txt" 2>&1 &
    longseq_wait_for_probe $! "$folder" "$seconds" "${@:3}"
}

longseq_wait_for_probe() { # longseq_wait_for_probe PROCESS FOLDER SECONDS RANKS HOST...: its status; says what it waits for
    local began=$SECONDS next=20 hosts=("${@:5}") number silent nets names
    while kill -0 "$1" 2>/dev/null; do
        sleep 0.2
        ((SECONDS - began >= next)) || continue
        next=$((next * 2)) silent=()
        for number in "${!hosts[@]}"; do
            [[ -e $2/report-$((number * $4)).json ]] || silent+=("${hosts[number]}")
        done
        printf -v names '%s, ' ${silent[@]+"${silent[@]:0:4}"}
        ((${#silent[@]} <= 4)) || names+='..., '
        ((${#silent[@]})) || names=
        nets=$(compgen -G "$2/net-*.json" | wc -l) || :
        longseq_say "preflight: $((${#hosts[@]} - ${#silent[@]})) of ${#hosts[@]} host(s) have answered after\
 $((SECONDS - began)) s${names:+, not ${names%, }}; $nets of $((${#hosts[@]} * $4)) rank(s) are done with the others;\
 it waits for $3 s (PREFLIGHT_SECONDS)"
    done
    wait "$1"
}

longseq_probe_alone() { # longseq_probe_alone FOLDER HOST
    local -x LONGSEQ_EXPECTED_HOST=$2
    longseq_probe "$1/$2" 20 1 "$2" || :
    mv -- "$1/$2"/report-*.json "$1/" 2>/dev/null || :
}

longseq_probe_missing() { # longseq_probe_missing FOLDER HOST...: each that has not reported, alone, at once
    local folder=$1 host
    for host in "${@:2}"; do
        mkdir -p -- "$folder/$host"
        longseq_end_all longseq_probe_alone "$folder" "$host" &
    done
    wait
}

longseq_asked_of_network() { # sets LONGSEQ_ASKED to the judge's words: what this machine's network must give
    local least=${LONGSEQ_VALUE[LEAST_BANDWIDTH]}
    LONGSEQ_ASKED=()
    # On CPUs, or by TCP because the user wants that, it is another network than the profile's
    if [[ $LONGSEQ_DEVICE == cuda && ${LONGSEQ_VALUE[SITE_NCCL]} == 1 && -z ${NCCL_IB_DISABLE-} &&
        (-z ${NCCL_NET-} || " ${LONGSEQ_NCCL[*]-} " == *" NCCL_NET=$NCCL_NET "*) ]]; then
        least=${least:-$LONGSEQ_LEAST_BANDWIDTH}
        [[ -z $LONGSEQ_TRANSPORT ]] || LONGSEQ_ASKED+=(--transport "$LONGSEQ_TRANSPORT")
    fi
    [[ -z $least ]] || LONGSEQ_ASKED+=(--least "$least")
}

longseq_judge() { # longseq_judge FOLDER HOST... -- [--json]: prints the verdict; status 69 for a bad host
    local folder=$1 hosts=() LONGSEQ_ASKED
    shift
    while [[ $1 != -- ]]; do hosts+=("$1") && shift; done
    longseq_asked_of_network
    printf '%s\n' "${hosts[@]}" | PYTHONPATH=$LONGSEQ_ROOT PYTHONSAFEPATH=1 "$LONGSEQ_PYTHON" -m longseq doctor judge \
        "$folder" "${LONGSEQ_DEVICE/xpu/cpu}" "$LONGSEQ_RANKS_PER_HOST" ${LONGSEQ_ASKED[@]+"${LONGSEQ_ASKED[@]}"} "${@:2}"
}

longseq_has_judged() { # longseq_has_judged FOLDER STATUS: does that status of longseq_examine speak of hosts, not of itself?
    (($2 == LONGSEQ_EXIT_BAD_HOST)) && [[ -f $1/good.txt ]]
}

longseq_good_hosts() { # longseq_good_hosts FOLDER: prints how many of the hosts are good
    local host count=0
    while IFS= read -r host; do count=$((count + 1)); done <"$1/good.txt"
    printf '%d' "$count"
}

longseq_examine() { # longseq_examine FOLDER HOST... -- [--json]: probe, and again alone where that did not work
    # LONGSEQ_AT_MOST: seconds that they have for an answer, however many they are; empty: any
    local folder=$1 host hosts=() missing=() status=0 REPLY seconds
    for host in "${@:2}"; do
        [[ $host != -- ]] || break
        hosts+=("$host")
    done
    # From a cold file system hundreds of hosts import for minutes
    seconds=${LONGSEQ_VALUE[PREFLIGHT_SECONDS]:-$((60 + ${#hosts[@]}))}
    ((${LONGSEQ_AT_MOST:-seconds} >= seconds)) || seconds=$LONGSEQ_AT_MOST
    longseq_probe_ranks
    longseq_probe "$folder" "$seconds" "$REPLY" "${hosts[@]}" || :
    longseq_judge "$folder" "${hosts[@]}" -- >/dev/null || status=$?
    ((status != 2)) || return 2 # it is the environment, as it has said
    if longseq_has_judged "$folder" "$status" && (($(longseq_good_hosts "$folder") < ${#hosts[@]})); then
        # A launcher that cannot start one rank starts none, so who is silent may yet be well
        for host in "${hosts[@]}"; do
            grep -qxF -- "$host" "$folder/good.txt" || missing+=("$host")
        done
        longseq_probe_missing "$folder" "${missing[@]}"
    fi
    longseq_judge "$folder" "${@:2}"
}

longseq_preflight() { # looks at all hosts of a run on several; leaves bad ones out where SPARE_NODES allows; 75: told to stop
    local all=("${LONGSEQ_HOSTS[@]}" ${LONGSEQ_SPARES[@]+"${LONGSEQ_SPARES[@]}"}) good=() wanted=${#LONGSEQ_HOSTS[@]}
    local folder=$LONGSEQ_RUN/log/doctor text status=0 host LONGSEQ_OUTPUT=$LONGSEQ_RUN
    ((${#all[@]} > 1)) || [[ ${LONGSEQ_VALUE[PREFLIGHT]} == 1 ]] || return 0
    [[ ${LONGSEQ_VALUE[PREFLIGHT]} != 0 ]] || return 0
    mkdir -p -- "$folder"
    longseq_until_told longseq_examine "$folder" "${all[@]}" -- >"$folder/verdict.txt" || status=$?
    ((status != 75)) || return 75
    # An error: a file system that is away for a moment looks the same, and a chain that has trained tries again
    ((status != 2)) || return 1
    text=$(<"$folder/verdict.txt")
    if ((status == 0)); then
        longseq_say "${#all[@]} hosts are well: ${text##*$'\n'}"
        return 0
    fi
    printf '%s\n' "$text" | grep -v '  ok   ' >&2 || :
    longseq_tell_fault "$LONGSEQ_RUN" || return # no host could say that it is well
    if ! longseq_has_judged "$folder" "$status"; then
        longseq_say "note: the doctor itself failed (exit code $status), so no host is blamed, and the run starts"
        return 0
    fi
    mapfile -t good <"$folder/good.txt"
    # shellcheck disable=SC2034 # again.sh reads them
    LONGSEQ_FAILED=() LONGSEQ_FAILED_WHY=$(printf '%s\n' "$text" | sed -n 's/^.*  BAD  //p' | head -n 1)
    for host in "${all[@]}"; do
        [[ " ${good[*]-} " != *" $host "* ]] || continue
        LONGSEQ_FAILED+=("$host")
        longseq_blame "$host" 'by the preflight'
    done
    if ((${#good[@]} >= wanted && ${#good[@]} < ${#all[@]})); then
        LONGSEQ_HOSTS=("${good[@]:0:wanted}")
        longseq_say "the run starts without the bad host(s), on ${LONGSEQ_HOSTS[*]}"
        rm -f -- "$folder"/report-*.json "$folder"/net-*.json "$folder"/nccl-*.txt "$folder/good.txt"
        # The all-reduce of before may have failed because of those
        status=0
        longseq_until_told longseq_examine "$folder" "${LONGSEQ_HOSTS[@]}" -- >"$folder/verdict.txt" || status=$?
        ((status != 75)) || return 75
        if ((status == 0)) || ! longseq_has_judged "$folder" "$status"; then
            LONGSEQ_FAILED=()
            return 0
        fi
        cat -- "$folder/verdict.txt" >&2
    fi
    longseq_say "the hosts are not fit for a run of $wanted (launcher's words: $folder/launcher.txt): leave bad\
 ones out by NHOSTS or HOSTFILE, or ask for more with SPARE_NODES; PREFLIGHT=0 starts all the same"
    return "$LONGSEQ_EXIT_BAD_HOST"
}
