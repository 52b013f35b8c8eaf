"""The folder that holds everything about one run, made so that two jobs can never share it.

    folder = make_run_folder(Path("outputs"), run_name("tiny", "tp2", 2048, 1234))
    write_command(folder, command, os.environ)
    write_environment(folder, hosts=["x3001c0s13b0n0"])

Standard library only: it runs before any rank starts, where torch need not be importable.
"""

import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file

SUBFOLDERS = ("log", "checkpoints", "tensorboard", "wandb")

_PACKAGES = """
    torch deepspeed longseq mpi4py mpich megatron-core flash-attn apex triton numpy rich
    tensorboard wandb matplotlib pyrodigal nvidia-nccl-cu12 nvidia-cudnn-cu12
"""
PACKAGES = tuple(_PACKAGES.split())

# What a launch depends on: the variables of our scripts, and the settings of the libraries below.
# Nothing that belongs to one job alone (its id, its rendezvous): another must be able to repeat it.
_VARIABLES = """
    MODEL_SIZE_KEY SEQ_LEN MICRO_BATCH GAS GRADIENT_ACCUMULATION_STEPS GLOBAL_BATCH SP_TYPE MPSIZE
    SPSIZE PPSIZE RINGSIZE ZERO_STAGE OFFLOAD_DEVICE OFFLOAD_PARAM NVME_PATH USE_SEQUENCE_PARALLEL
    USE_ACTIVATION_CHECKPOINTING DATA_PATH DATA_CACHE VOCAB_FILE MERGE_FILE DDP_IMPL WB_PROJECT
    DTYPE TRAIN_ITERS LR MIN_LR SEED EVAL_INTERVAL EVAL_ITERS SAVE_INTERVAL LOG_INTERVAL OUTPUT_DIR
    LOAD SAVE DS_CONFIG TRAINER MEGATRON_DEEPSPEED_DIR MACHINE HOSTFILE NHOSTS NGPU_PER_HOST NGPUS
    SPARE_NODES PREFLIGHT SITE_NCCL SITE_MODULES WALLTIME
    PATH LD_LIBRARY_PATH PYTHONPATH VIRTUAL_ENV CONDA_PREFIX TMPDIR
    CUDA_VISIBLE_DEVICES TORCH_EXTENSIONS_DIR TORCH_CUDA_ARCH_LIST CUDA_HOME KMP_AFFINITY
    KMP_BLOCKTIME LD_PRELOAD http_proxy https_proxy HTTP_PROXY HTTPS_PROXY no_proxy NO_PROXY
"""
VARIABLES = frozenset(_VARIABLES.split())
_PREFIXES = """
    LONGSEQ_ USE_FLASH_ATTN WANDB_ OMP_ MKL_ NCCL_ GLOO_ TORCH_NCCL_ PYTORCH_ FI_ CCL_ UCX_ DS_
    DEEPSPEED_ MPICH_ I_MPI_ OMPI_MCA_
"""
PREFIXES = tuple(_PREFIXES.split())
ONE_JOBS = {"LONGSEQ_JOB", "LONGSEQ_END_TIME", "LONGSEQ_LOG", "LONGSEQ_STARTER", "LONGSEQ_RANKS"}
SECRET_NAME = re.compile(
    r"(^|_)(KEYS?|PASS|PASSWD|PWD|CREDENTIALS?|AUTH|BEARER|COOKIE|PRIVATE|CERT)($|_)"
    r"|PASSWORD|SECRET|TOKEN(?!IZ)|API_?KEY|^AWS_|^NETRC",
    re.IGNORECASE,
)
NOT_SECRET = {"MODEL_SIZE_KEY"}  # the name of an architecture
SECRET_VALUE = re.compile(r"://[^/\s@]*:[^/\s@]*@")  # a password inside an address
SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def job_id(environ: Mapping[str, str] = os.environ) -> str:
    """The scheduler's number for this job, else this process's."""
    for name in ("PBS_JOBID", "SLURM_JOB_ID", "COBALT_JOBID"):
        if environ.get(name):
            return environ[name].split(".", 1)[0]
    return f"pid{os.getpid()}"


def run_name(
    model: str,
    layout: str,
    seq_length: int,
    seed: int,
    job: str | None = None,
    when: float | None = None,
) -> str:
    """A folder name that tells runs apart at a glance and is safe in any shell and file system."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(when))
    name = f"{model}_{layout}_s{seq_length}_seed{seed}_{stamp}_{job or job_id()}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-.")[:200]


def make_run_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or `parent/name-2`, …: always a folder that did not exist before.

    Raises UserError naming the folder where it cannot be made or is full.
    """
    attempt = 1
    while True:
        try:
            return _make(parent / (name if attempt == 1 else f"{name}-{attempt}"))
        except FileExistsError:
            attempt += 1


def claim_run_folder(folder: Path) -> Path:
    """Make exactly `folder`; raises UserError where another run has it."""
    try:
        return _make(folder)
    except FileExistsError:
        raise UserError(
            f"--run-dir {folder} exists: a run never writes into another's folder"
        ) from None


def _make(folder: Path) -> Path:
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # FileExistsError too: the parent is a file
        raise _unusable(parent, error) from None
    try:
        folder.mkdir()
        for sub in SUBFOLDERS:
            (folder / sub).mkdir()
    except FileExistsError:
        raise
    except OSError as error:
        raise _unusable(parent, error) from None
    return folder.absolute()


def _unusable(parent: Path, error: OSError) -> UserError:
    return UserError(
        f"the run's folder cannot be made in {parent}: {reason(error)};"
        " set OUTPUT_DIR to a folder with room that you can write to"
    )


def is_secret(name: str, value: str = "") -> bool:
    """Whether an environment variable may hold a key, token or password."""
    if name in NOT_SECRET:
        return False
    return bool(SECRET_NAME.search(name) or SECRET_VALUE.search(value))


def launch_variables(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that a run depends on, and the names of those left out because they may be
    secret.
    """
    kept, secret = {}, []
    for name, value in sorted(environ.items()):
        if not (name in VARIABLES or name.startswith(PREFIXES)) or not SHELL_NAME.match(name):
            continue
        if name in ONE_JOBS:
            continue
        if is_secret(name, value):
            secret.append(name)
        else:
            kept[name] = value
    return kept, secret


def write_command(
    folder: Path,
    command: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Path:
    """Write `folder/command.sh`, which repeats `command` with the variables that it depended on."""
    kept, secret = launch_variables(environ)
    lines = [
        "#!/usr/bin/env bash",
        "# Repeats this run: the variables it depended on, and its command.",
        f"cd {shlex.quote(str(directory or Path.cwd()))} || exit",
        *(f"export {name}={shlex.quote(value)}" for name, value in kept.items()),
    ]
    if secret:
        lines.append(f"# Set at the time, left out because they may be secret: {' '.join(secret)}")
    lines.append("exec " + shlex.join(command))
    return _write(folder / "command.sh", "\n".join(lines) + "\n", 0o755)


def write_environment(folder: Path, hosts: Iterable[str] = (), **more: Any) -> Path:
    """Write `folder/environment.json`: versions, commit, hosts and hardware."""
    text = json.dumps({**environment(hosts), **more}, indent=2, ensure_ascii=False)
    return _write(folder / "environment.json", text + "\n")


def _write(path: Path, text: str, mode: int = 0o644) -> Path:
    try:
        replace_file(path, text, mode)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {reason(error)}") from None
    return path


def environment(hosts: Iterable[str] = ()) -> dict[str, Any]:
    """What the run ran on. Nothing is imported for its version, so it takes milliseconds."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "hosts": list(hosts) or [socket.gethostname()],
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": package_versions(),
        "commit": git_state(Path(__file__).resolve().parents[2]),
        "system": platform.platform(),
        "cpu": {"model": cpu_model(), "usable_cores": len(os.sched_getaffinity(0))},
        "memory_gib": _memory_gib(),
        "gpus": gpus(),
        "job": job_id(),
    }


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those of `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(tree: Path) -> dict[str, Any] | None:
    """Commit of the source tree and whether tracked files differ from it; None where that is
    unknown.
    """
    top = _output("git", "-C", str(tree), "rev-parse", "--show-toplevel")
    commit = _output("git", "-C", str(tree), "rev-parse", "HEAD")
    if commit is None or top != str(tree):  # installed inside somebody else's repository
        return None
    changes = _output("git", "-C", str(tree), "status", "--porcelain", "--untracked-files=no")
    return {"id": commit, "changed_files": None if changes is None else len(changes.splitlines())}


def cpu_model() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def gpus() -> list[str]:
    """Name and memory of each GPU that nvidia-smi shows on this host."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = _output(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    return [] if listed is None else listed.splitlines()


def _output(*command: str) -> str | None:
    """What a command prints, or None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
