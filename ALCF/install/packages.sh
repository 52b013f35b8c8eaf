# shellcheck shell=bash
# Sourced by install.sh: the steps that every environment is made of, in their order.

base_torch() { # prints the version of the torch that conda's Python brings, if there is one
    [[ ${LONGSEQ_VENV##*/} == conda-* ]] || return 0
    "$LONGSEQ_BASE_PYTHON" -c '
import importlib.metadata as m
try: print(m.version("torch"), m.version("numpy"))
except m.PackageNotFoundError: pass'
}

make_venv() { # an empty environment; on conda's packages where those have torch
    local site=() torch numpy
    read -r torch numpy < <(base_torch) || true
    [[ -z $torch ]] || site=(--system-site-packages)
    "$LONGSEQ_BASE_PYTHON" -m venv ${site[@]+"${site[@]}"} "$LONGSEQ_VENV"
    cp -- "$LONGSEQ_ROOT/constraints.txt" "$LONGSEQ_VENV/constraints.txt"
    if [[ -n $torch ]]; then
        tell "on top of ${CONDA_PREFIX}: its torch $torch and numpy $numpy are kept"
        sed -e '/^\(torch\|numpy\)==/d' "$LONGSEQ_ROOT/constraints.txt" >"$LONGSEQ_VENV/constraints.txt"
        printf 'torch==%s\nnumpy==%s\n' "$torch" "$numpy" >>"$LONGSEQ_VENV/constraints.txt"
    fi
    link_project
}

link_project() { # the repository on the environment's path, and `longseq` as a command
    local site
    site=$("$LONGSEQ_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$LONGSEQ_ROOT" >"$site/longseq.pth"
    # Not a Python script: its first line could not name an interpreter in a folder with blanks
    # shellcheck disable=SC2016 # it is expanded when the script runs
    printf '%s\n' '#!/bin/sh' 'exec "$(dirname -- "$(readlink -f -- "$0")")/python" -m longseq "$@"' \
        >"$LONGSEQ_VENV/bin/longseq"
    chmod +x -- "$LONGSEQ_VENV/bin/longseq"
}

install_torch() { # the CPU build where there is no GPU: a tenth of the size
    local version
    [[ -z $(base_torch) ]] || return 0 # conda's is kept
    version=$(pinned torch)
    if longseq_is_amd && [[ -z $wheels ]]; then
        rocm_torch "$version"
        return
    fi
    if [[ $LONGSEQ_DEVICE == xpu && -z $wheels ]]; then # never run
        pip_install --extra-index-url https://download.pytorch.org/whl/xpu "torch==$version+xpu" && return
        tell "there is no torch $version for xpu: load the module that brings one, or name a Python that has it (PYTHON)"
        return 1
    fi
    if [[ $LONGSEQ_DEVICE == cpu && -z $wheels && $version != *+* ]]; then
        pip_install "torch==$version+cpu" && return
        pip_install --retries 0 --timeout 10 --extra-index-url https://download.pytorch.org/whl/cpu \
            "torch==$version+cpu" && return
        tell "torch's CPU build was not to be had; this is the CUDA build, gigabytes more, but it runs on CPUs"
    fi
    pip_install "torch==$version"
}

rocm_torch() { # rocm_torch VERSION: the build for AMD's GPUs, of the ROCm that this machine has
    local file=${ROCM_PATH:-/opt/rocm}/.info/version rocm=
    [[ ! -r $file ]] || IFS= read -r rocm <"$file" || true
    if [[ ! $rocm =~ ^([0-9]+\.[0-9]+) ]]; then
        tell "AMD's GPUs, but no ROCm: $file does not say which. Load its module, or set ROCM_PATH"
        return 1
    fi
    rocm=${BASH_REMATCH[1]}
    pip_install --extra-index-url "https://download.pytorch.org/whl/rocm$rocm" "torch==$1+rocm$rocm" && return
    tell "there is no torch $1 for ROCm $rocm: load a ROCm that it was built for, or name a Python that has torch\
 (PYTHON=/path/to/python3)"
    return 1
}

install_packages() { # everything but DeepSpeed, whose wheel is built here, and what talks to MPI
    local names
    names=$(requirements | grep -v -e '^deepspeed' -e '^mpi4py')
    mapfile -t names <<<"$names"
    pip_install "${names[@]}" wheel # wheel: DeepSpeed's and mpi4py's setup.py want it
}

build_deepspeed() { # its C++ ops come into the wheel: nothing is compiled, or locked, when ranks start
    local ops=(DS_BUILD_SHM_COMM=1 DS_BUILD_CPU_ADAM=1 DS_ACCELERATOR=cpu)
    if [[ $LONGSEQ_DEVICE == cuda ]]; then
        ops=(DS_BUILD_CPU_ADAM=1)
        command -v nvcc >/dev/null || ops=()
    fi
    if ((${#ops[@]})); then
        deepspeed_wheel "${ops[@]}" && return
        tell "DeepSpeed's C++ ops did not compile (see $log): OFFLOAD_DEVICE=cpu will not work"
    else
        tell "no CUDA compiler (nvcc) here, so no C++ ops: OFFLOAD_DEVICE=cpu will not work"
    fi
    deepspeed_wheel DS_BUILD_OPS=0
}

deepspeed_wheel() { # deepspeed_wheel NAME=VALUE...: builds and installs it with these settings
    # No cache: that may hold a wheel without ops, or one that another CPU model was compiled for.
    # Its own environment variables would go into the build, so nothing else is set here.
    (
        export "PATH=$LONGSEQ_VENV/bin:$PATH"
        export "${@?}"
        pip_install --no-build-isolation --no-cache-dir --config-settings=--build-option=build_ext \
            "--config-settings=--build-option=-j$(nproc)" "deepspeed==$(pinned deepspeed)"
    )
}

install_mpi() { # mpi4py for the machine's MPI where there is one that works, else the mpich wheel
    local mpi4py mpiexec how source
    mpi4py=mpi4py==$(pinned mpi4py)
    if mpiexec=$(command -v mpiexec); then
        # Compiled against its headers; else the wheel, which finds the usual libraries by itself
        source=(--no-cache-dir --no-binary mpi4py)
        for how in "mpi4py is compiled against" "mpi4py's wheel is used with"; do
            if pip_install --force-reinstall --no-deps "${source[@]}" "$mpi4py" && two_ranks; then
                tell "$how this machine's MPI ($mpiexec)"
                return
            fi
            source=(--only-binary mpi4py)
        done
        tell "mpi4py does not run with this machine's MPI ($mpiexec): the mpich wheel is used instead"
    fi
    pip_install --force-reinstall --no-deps "$mpi4py" "mpich==$(pinned mpich)"
}

two_ranks() { # do two ranks of the launcher find each other?
    local LONGSEQ_RANKS=2 LONGSEQ_HOSTS=(localhost)
    longseq_mpiexec
    [[ $(timeout 60 "${LONGSEQ_LAUNCHER[@]}" "$LONGSEQ_PYTHON" -c '
import sys
from mpi4py import MPI
# In one piece: under PYTHONUNBUFFERED the words of two ranks would mix
sys.stdout.write(f"sum {MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1)}\n")') == $'sum 3\nsum 3' ]]
}

check_environment() { # imports everything, and lets two ranks add up a tensor over torch and over MPI
    local LONGSEQ_RANKS=2 LONGSEQ_HOSTS=(localhost)
    "$LONGSEQ_PYTHON" - <<'PYTHON'
import importlib
for name in ("torch", "deepspeed", "mpi4py.MPI", "megatron.core.datasets.indexed_dataset", "numpy",
             "rich", "tensorboard", "wandb", "matplotlib", "pyrodigal", "dnaio", "xopen", "Bio",
             "tokenizers", "longseq"):
    importlib.import_module(name)
    print("imported", name)
PYTHON
    longseq_mpiexec
    longseq_free_port
    [[ $(env "MASTER_ADDR=127.0.0.1" "MASTER_PORT=$REPLY" OMP_NUM_THREADS=1 timeout 120 \
        "${LONGSEQ_LAUNCHER[@]}" /bin/sh "$LONGSEQ_ROOT/ALCF/rank.sh" "$LONGSEQ_PYTHON" -c '
import sys, torch, torch.distributed as dist
from mpi4py import MPI
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(total)
assert MPI.COMM_WORLD.allreduce(dist.get_rank() + 1) == 3
sys.stdout.write(f"sum {total.item()}\n")
dist.destroy_process_group()') == $'sum 3\nsum 3' ]]
}
