#!/bin/bash
# A stand-in for the mpiexec of Cray PALS: refuses every flag that PALS does not know, then lets Hydra
# start the ranks ($HYDRA, over $SSH) and gives them PALS's names for their numbers; no PALS_SIZE, which
# may be missing, and nothing of Hydra's.
refuse() { echo "mpiexec: $1" >&2 && exit 1; }
n='' ppn='' hosts='' envall=0
while (($#)); do
    case $1 in
        -n | --np) n=$2 && shift ;;
        --ppn) ppn=$2 && shift ;;
        --hostfile) hosts=$2 && shift ;;
        --depth=*) [[ ${1#*=} =~ ^[0-9]+$ ]] || refuse "bad $1" ;;
        --cpu-bind) [[ $2 =~ ^(none|numa|core|thread|depth|list:[0-9:,-]+)$ ]] || refuse "bad --cpu-bind $2" && shift ;;
        --cpu-bind=*) [[ ${1#*=} =~ ^(none|numa|core|thread|depth|list:[0-9:,-]+)$ ]] || refuse "bad $1" ;;
        --env) [[ $2 == *=* ]] || refuse "bad --env $2" && export "${2?}" && shift ;;
        --envall) envall=1 ;;
        --line-buffer) ;;
        -*) refuse "unrecognized option '$1'" ;;
        *) break ;;
    esac
    shift
done
[[ $n =~ ^[1-9][0-9]*$ && $ppn =~ ^[1-9][0-9]*$ ]] || refuse "-n $n --ppn $ppn"
[[ -r $hosts ]] || refuse "cannot read the host file $hosts"
((n <= ppn * $(wc -l <"$hosts"))) || refuse "$n ranks do not fit"
((envall)) || refuse "no --envall: the ranks would have no environment"
# shellcheck disable=SC2016 # it is expanded by the rank's shell
exec "$HYDRA" -launcher ssh -launcher-exec "$SSH" -f "$hosts" -ppn "$ppn" -n "$n" /bin/bash -c '
    export PALS_RANKID=$PMI_RANK PALS_LOCAL_RANKID=$MPI_LOCALRANKID PALS_NODEID=0
    fd=$PMI_FD
    unset ${!PMI_*} ${!MPI_LOCAL*} ${!HYDRA_*} ${!HYDI_*} ${!MPIR_*}
    "$@" || { status=$? && sleep 0.5 && echo "cmd=abort exitcode=$status" >&"$fd"; exit "$status"; }' rank "$@"
