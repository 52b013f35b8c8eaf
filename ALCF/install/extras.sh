# shellcheck shell=bash
# Sourced by install.sh: what training can do without: kernels for GPUs, tools for tests, the second trainer.

build_gpu_extras() { # kernels that make training faster and that it can do without
    local name
    if [[ $LONGSEQ_DEVICE == cpu ]]; then
        tell "no GPU here, so no flash-attn and no apex: attention runs on torch's own flash kernels"
        return
    fi
    if [[ $LONGSEQ_DEVICE == xpu ]] || longseq_is_amd; then
        tell "no GPU of NVIDIA's, so no flash-attn and no apex: attention runs on torch's own flash kernels"
        return
    fi
    for name in flash_attn apex; do
        "$LONGSEQ_PYTHON" -c "import $name" && continue
        build_gpu_extra "$name" || tell "$name could not be built (see $log): $(without "$name")"
    done
}

build_gpu_extra() { # build_gpu_extra flash_attn|apex
    command -v nvcc >/dev/null || { echo "no nvcc" && return 1; }
    # A compiler takes some 4 GiB for these, so not one for each core
    local jobs
    jobs=$(awk '/MemAvailable/ { print int($2 / 4194304) + 1 }' /proc/meminfo)
    export MAX_JOBS=$((jobs < $(nproc) ? jobs : $(nproc)))
    case $1 in
        flash_attn) pip_install --no-build-isolation flash-attn ;;
        # The package of this name in Python's index is another program
        apex) pip_install --no-build-isolation 'git+https://github.com/NVIDIA/apex@25.09' ;;
    esac
}

without() { # without flash_attn|apex: what is lost
    case $1 in
        flash_attn) echo "USE_FLASH_ATTN=v2 cannot be chosen; torch's own flash kernels serve" ;;
        apex) echo "no fused norms and optimizer for upstream Megatron-DeepSpeed; our trainer uses none" ;;
    esac
}

install_test_tools() {
    local names
    names=$(requirements test)
    mapfile -t names <<<"$names"
    pip_install "${names[@]}"
    # The tests' ranks are started by one and the same mpiexec whatever MPI this machine has
    [[ -x $LONGSEQ_VENV/bin/mpiexec ]] ||
        pip_install --no-deps --ignore-installed --prefix "$LONGSEQ_VENV/mpich" "mpich==$(pinned mpich)"
}

build_file_operator() { # for the tests of OFFLOAD_DEVICE=nvme; a run that asks for it builds it itself
    local said
    said=$(cd -- "$LONGSEQ_ROOT" && DS_ACCELERATOR=cpu "$LONGSEQ_PYTHON" -c '
import sys
from longseq.errors import UserError
from longseq.engine.nvme import build_operator
try: build_operator()
except UserError as error: sys.exit(str(error))' 2>&1) && return
    printf '%s\n' "$said"
    tell "${said##*$'\n'}; the tests of it are skipped"
}

known_upstream() { # known_upstream FOLDER: is that the checkout? '' prints repository and commit
    PYTHONPATH=$LONGSEQ_ROOT PYTHONDONTWRITEBYTECODE=1 "$LONGSEQ_PYTHON" - "$@" <<'PYTHON'
import sys
from pathlib import Path
from longseq.errors import UserError
from longseq.upstream.checkout import COMMIT, REPOSITORY, checked
try:
    print(checked(Path(sys.argv[1])) if sys.argv[1] else f"{REPOSITORY} {COMMIT}")
except UserError as error:
    sys.exit(str(error))
PYTHON
}

get_upstream() { # one commit of Megatron-DeepSpeed; its code is checked by its hash before it is put in place
    local folder=$LONGSEQ_VENV/megatron-deepspeed aside repository commit
    aside=$folder.part
    ! known_upstream "$folder" || return 0
    rm -rf -- "$aside" "$folder"
    read -r repository commit < <(known_upstream '')
    git init -q -- "$aside"
    if ! git -C "$aside" fetch -q --depth 1 "$repository" "$commit"; then
        rm -rf -- "$aside"
        tell "$repository cannot be reached: bring a checkout of $commit here, and set MEGATRON_DEEPSPEED_DIR to it"
        return 1
    fi
    git -C "$aside" -c advice.detachedHead=false checkout -q FETCH_HEAD
    known_upstream "$aside"
    mv -- "$aside" "$folder"
    [[ $LONGSEQ_DEVICE == cpu ]] || "$LONGSEQ_PYTHON" -c 'import apex' ||
        tell "apex is missing, which Megatron-DeepSpeed needs on GPUs: ./install.sh --recreate builds it where nvcc is"
}
