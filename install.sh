#!/usr/bin/env bash
# Makes the environment that training and tests run in, under venvs/MACHINE/PYTHON/.
#
# Usage: ./install.sh [--test] [--recreate] [--dry-run] [--offline WHEELDIR] [--wheels DIR [--python 3.12]] [--help]
#                     [--megatron-deepspeed]
#
#   --test              also what ./tests/run.sh needs: pytest, linters, reference models
#   --megatron-deepspeed   also the second trainer's checkout, at the commit that is known (docs/upstream.md)
#   --recreate          make it anew, even when it is finished
#   --dry-run           say what would be done, and do nothing
#   --offline WHEELDIR  take every package from this folder. To fill it where there is a network:
#                       python3 -m pip download -d WHEELDIR -c constraints.txt wheel '.[mpi,test]'
#   --wheels DIR        then fills this folder with what training needs on a machine that has a Python with torch,
#                       and no network: ./tests/gpu/run.sh --wheels DIR takes it there. --python: that machine's
#
# A finished environment is left as it is, in a second. One that was cut off, or whose versions
# (constraints.txt), Python, machine or folder have changed, is made anew. pip's own settings
# (PIP_*, pip.conf) are obeyed. MACHINE and PYTHON choose another machine profile and Python.
set -euo pipefail

LONGSEQ_ROOT=$(readlink -f -- "${BASH_SOURCE[0]}")
LONGSEQ_ROOT=${LONGSEQ_ROOT%/*}
source "$LONGSEQ_ROOT/ALCF/setup.sh"
source "$LONGSEQ_ROOT/ALCF/launch.sh"

with_test=0 with_upstream=0 recreate=0 dry_run=0 wheels='' wheels_out='' wheels_python=''
steps=0 steps_all=9

# ---------------------------------------------------------------- how steps are run and shown

tell() { # tell TEXT: a remark of the running step, shown below its line
    printf '%s\n' "$1" | tee -a "$LONGSEQ_VENV/remarks.txt"
}

step() { # step TITLE FUNCTION: runs it with its output in the log; any failure ends the installation
    local title=$1 begin=$SECONDS status line
    shift
    steps=$((steps + 1))
    printf '[%d/%d] %s … ' "$steps" "$steps_all" "$title"
    printf '\n==== %s\n' "$title" >>"$log"
    : >"$LONGSEQ_VENV/remarks.txt"
    # No `if` or `||` around it: they would turn `set -e` off inside
    set +e
    (
        set -e
        "$@"
    ) >>"$log" 2>&1 </dev/null
    status=$?
    set -e
    ((status == 0)) && printf '%d s\n' $((SECONDS - begin)) || printf 'failed\n'
    while IFS= read -r line; do printf '      %s\n' "$line"; done <"$LONGSEQ_VENV/remarks.txt"
    ((status == 0)) && return
    printf '      %s\n' "The end of the log:" >&2
    tail -n 12 "$log" | cut -c 1-300 | sed 's/^/      | /' >&2
    longseq_say "installation failed at \"$title\"; the whole log is $log. Run ./install.sh again once it is mended."
    exit 1
}

pip_install() { # pip_install ARGUMENT...: pip install with our pins
    run_pip install -c "$LONGSEQ_VENV/constraints.txt" "$@"
}

run_pip() { # run_pip COMMAND ARGUMENT...: pip, from the folder of --offline where one is given
    local offline=()
    [[ -z $wheels ]] || offline=(--no-index --find-links "$wheels")
    # What a killed pip leaves, tens of MiB a time, goes with the unfinished environment
    mkdir -p -- "$LONGSEQ_VENV/tmp"
    TMPDIR=$LONGSEQ_VENV/tmp "$LONGSEQ_PYTHON" -m pip "$1" --disable-pip-version-check --no-input \
        ${offline[@]+"${offline[@]}"} "${@:2}"
}

requirements() { # requirements [EXTRA]: prints pyproject.toml's requirements, one a line
    "$LONGSEQ_PYTHON" - "$LONGSEQ_ROOT/pyproject.toml" "${1-}" <<'PYTHON'
import sys
try:
    import tomllib
except ImportError:  # Python 3.10: pip carries the same parser
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extra = sys.argv[2]
print("\n".join(project["optional-dependencies"][extra] if extra else project["dependencies"]))
PYTHON
}

pinned() { # pinned NAME: prints its version in the constraints
    sed -n "s/^$1==\([^ ;]*\).*/\1/p" "$LONGSEQ_VENV/constraints.txt" | head -n 1
}

# ---------------------------------------------------------------- what the machine must have

package_command() { # package_command COMPILER HEADERS VENV (1 if missing): the one command for them
    local sudo='sudo ' names=()
    ((EUID != 0)) || sudo=
    if command -v apt-get >/dev/null; then
        (($1)) && names+=(g++)
        (($2)) && names+=("python${LONGSEQ_PYTHON_VERSION%.*}-dev")
        (($3)) && names+=("python${LONGSEQ_PYTHON_VERSION%.*}-venv")
        printf '%sapt-get install -y %s' "$sudo" "${names[*]}"
    elif command -v zypper >/dev/null; then
        (($1)) && names+=(gcc-c++)
        (($2 + $3)) && names+=(python3-devel)
        printf '%szypper install -y %s' "$sudo" "${names[*]}"
    else
        (($1)) && names+=(gcc-c++)
        (($2 + $3)) && names+=(python3-devel)
        printf '%sdnf install -y %s' "$sudo" "${names[*]}"
    fi
}

check_machine() { # before anything is made: folder, compiler, Python's own parts, room
    local compiler=0 headers=0 venv=0 room
    case $LONGSEQ_ROOT in
        *:* | *$'\n'*)
            longseq_refuse "the folder $LONGSEQ_ROOT has a colon or a line break in its name, which Python's\
 environments cannot live with: move the repository" || return
            ;;
    esac
    mkdir -p -- "${LONGSEQ_VENV%/*}" 2>/dev/null && [[ -w ${LONGSEQ_VENV%/*} ]] ||
        longseq_refuse "cannot write ${LONGSEQ_VENV%/*}, where the environment goes" || return
    command -v "${CXX:-g++}" >/dev/null || compiler=1
    read -r headers venv < <("$LONGSEQ_BASE_PYTHON" -c '
import importlib.util as u, os, sysconfig
print(int(not os.path.exists(sysconfig.get_path("include") + "/Python.h")),
      int(not (u.find_spec("ensurepip") and u.find_spec("venv"))))')
    if ((compiler + headers + venv)); then
        longseq_refuse "system packages are missing. This installs them: $(package_command "$compiler" \
            "$headers" "$venv")" || return
    fi
    room=$(df -Pk -- "${LONGSEQ_VENV%/*}" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((room >= 4)) ||
        longseq_say "note: $room GiB are free in ${LONGSEQ_VENV%/*}; an environment takes 2 (CPU) to 9 (GPU)"
}

# ---------------------------------------------------------------- the steps

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

# ---------------------------------------------------------------- wheels for another machine

needed_wheels() { # needed_wheels PYTHON NAME...: prints the pins of these and of all they need there, but torch's
    "$LONGSEQ_PYTHON" - "$LONGSEQ_VENV/constraints.txt" "$@" <<'PYTHON'
import sys
from importlib.metadata import requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

constraints, python, *wanted = sys.argv[1:]
target = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}

def acts(requirement):
    return requirement.marker is None or requirement.marker.evaluate(target)

with open(constraints, encoding="utf-8") as file:
    pins = [Requirement(line.strip()) for line in file if line.strip() and line[0] != "#"]
pins = {canonicalize_name(pin.name): pin for pin in pins if acts(pin)}
seen = {"torch"}  # that machine's own
while wanted:
    name = canonicalize_name(wanted.pop())
    if name not in seen:
        seen.add(name)
        print(name + str(pins[name].specifier))
        wanted += [found.name for found in map(Requirement, requires(name) or ()) if acts(found)]
PYTHON
}

fill_wheels() { # DeepSpeed's is made here, without compiled parts; all others are the package index's
    local aside=$LONGSEQ_VENV/tmp/wheels names others=() name minor platforms=()
    rm -rf -- "$aside"
    mkdir -p -- "$aside" "$wheels_out"
    names=$(needed_wheels "$wheels_python" deepspeed rich psutil safetensors jinja2 matplotlib dnaio)
    for name in $names; do
        [[ $name == deepspeed==* ]] || others+=("$name")
    done
    for minor in {17..34}; do platforms+=(--platform "manylinux_2_${minor}_$(uname -m)"); done
    run_pip download --no-deps --only-binary=:all: --python-version "$wheels_python" --implementation cp \
        "${platforms[@]}" -d "$aside" "${others[@]}"
    DS_BUILD_OPS=0 run_pip wheel --no-deps --no-build-isolation --no-cache-dir -w "$aside" \
        "deepspeed==$(pinned deepspeed)"
    mv -- "$aside"/*.whl "$wheels_out"
}

# ---------------------------------------------------------------- what is to be done

plan() { # what would be done, for --dry-run
    local lines state='is finished; nothing to do'
    if ((recreate)) || ! longseq_is_installed base; then
        state='would be made anew'
    elif ((with_test)) && ! longseq_is_installed test; then
        state='is finished; test tools would be added'
    fi
    ((! with_upstream)) || state+='; Megatron-DeepSpeed would be got unless it is there'
    lines=(
        "machine      $LONGSEQ_MACHINE, $LONGSEQ_DEVICES $LONGSEQ_DEVICE device(s) or cores"
        "Python       $LONGSEQ_PYTHON_VERSION at $LONGSEQ_BASE_PYTHON"
        "environment  $LONGSEQ_VENV"
        "             $state"
    )
    [[ -z $wheels_out ]] || lines+=("wheels       $wheels_out, for Python $wheels_python")
    printf '%s\n' "${lines[@]}"
}

lock_environment() { # one installation at a time; the kernel drops the lock when its owner dies
    exec 9>>"$LONGSEQ_VENV.lock"
    command -v flock >/dev/null || return 0
    flock -n 9 && return
    longseq_say "another installation is at work on $LONGSEQ_VENV: waiting for it"
    flock 9 || longseq_say "note: this file system has no locks; start one installation at a time"
}

install_all() {
    rm -rf -- "$LONGSEQ_VENV"
    mkdir -p -- "$LONGSEQ_VENV"
    printf 'longseq: making the environment %s (log: %s)\n' "$LONGSEQ_VENV" "$log"
    step 'virtual environment' make_venv
    step "torch for ${LONGSEQ_DEVICE/cuda/GPUs}" install_torch
    step 'packages' install_packages
    step 'MPI' install_mpi
    step 'DeepSpeed and its C++ ops' build_deepspeed
    step 'flash-attn and apex' build_gpu_extras
    step 'check: imports, two ranks' check_environment
    longseq_stamp >"$LONGSEQ_VENV/installed-base.txt" # last: without it the environment is unfinished
}

while (($#)); do
    case $1 in
        --test) with_test=1 ;;
        --megatron-deepspeed) with_upstream=1 ;;
        --recreate) recreate=1 ;;
        --dry-run) dry_run=1 ;;
        --offline)
            [[ -d ${2-} ]] || longseq_refuse "--offline ${2-}: give a folder of wheels"
            wheels=$(readlink -f -- "$2")
            shift
            ;;
        --wheels)
            [[ -n ${2-} && ! -f $2 && -z $(ls -A -- "$2" 2>/dev/null) ]] ||
                longseq_refuse "--wheels ${2-}: give a folder that is new or empty"
            wheels_out=$(readlink -m -- "$2")
            shift
            ;;
        --python)
            [[ ${2-} =~ ^3\.1[0-3]$ ]] || longseq_refuse "--python ${2-}: give 3.10, 3.11, 3.12 or 3.13"
            wheels_python=$2
            shift
            ;;
        -h | --help) longseq_answer longseq_help "${BASH_SOURCE[0]}" ;;
        *) longseq_refuse "unknown argument $1: ./install.sh --help lists them" ;;
    esac
    shift
done

[[ -z $wheels_python || -n $wheels_out ]] ||
    longseq_refuse "--python $wheels_python is that of the wheels' machine: give --wheels DIR too, or PYTHON in its place"

# What users have set for their own Python must not leak into this one, nor seem to be in it
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1
longseq_find_machine
longseq_prepare_machine
longseq_count_devices
longseq_find_python
longseq_find_environment
log=$LONGSEQ_VENV/install.log
wheels_python=${wheels_python:-${LONGSEQ_PYTHON_VERSION%.*}}

((! dry_run)) || longseq_answer plan
check_machine
lock_environment
steps_all=$((7 + 2 * with_test + with_upstream + (${#wheels_out} > 0)))
if ((recreate)) || ! longseq_is_installed base; then
    install_all
else
    steps_all=$((steps_all - 7))
    ! longseq_is_installed test || steps_all=$((steps_all - 2 * with_test))
fi
if ((with_test)) && ! longseq_is_installed test; then
    step 'test tools' install_test_tools
    step 'operator for offload to files' build_file_operator
    longseq_stamp >"$LONGSEQ_VENV/installed-test.txt"
fi
((! with_upstream)) || step 'Megatron-DeepSpeed' get_upstream
[[ -z $wheels_out ]] || step "wheels for Python $wheels_python" fill_wheels
printf 'longseq: the environment is ready: %s (%d s)\n' "$LONGSEQ_VENV" "$SECONDS"
