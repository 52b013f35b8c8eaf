"""This rank's device, and torch.distributed from its start to its end.

device = pick_device(config)
make_deterministic()                # where --deterministic-mode asks for it, before any matmul
start_distributed(device)
…
stop_distributed()                  # after a training that ended well
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]

from longseq.config.arguments import Config
from longseq.config.checks import check_cpu, check_xpu
from longseq.errors import UserError
from longseq.parallel import mpi
from longseq.parallel.mesh import COLLECTIVE_TIMEOUT

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # the first is every torch's
CUBLAS_REPEATS = (":4096:8", ":16:8")  # workspaces with which cuBLAS repeats itself


def pick_device(config: Config) -> torch.device:
    """This rank's device: as asked, else the GPU of its local rank, else the CPU."""
    kind = config.training.device
    if kind == "auto":
        kind = next((k for k in ("cuda", "xpu") if getattr(torch, k).is_available()), "cpu")
    if kind == "cpu":
        check_cpu(config)
        return torch.device("cpu")
    if kind == "xpu":
        check_xpu(config)
        _look_for_xpu()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    there = getattr(torch, kind).device_count()
    if local >= there:
        raise UserError(
            f"local rank {local} has no GPU: this host shows {there};"
            " start fewer ranks here, or give --device cpu"
        )
    return torch.device(kind, local)


def _look_for_xpu() -> None:
    """Say what this torch lacks for Intel's GPUs; no run on them has been made."""
    where = f"--device xpu: torch {torch.__version__}"
    remedy = "take a torch for xpu (PYTHON; on Aurora `module load frameworks`), or --device cpu"
    if not torch.xpu.is_available():
        raise UserError(f"{where} sees no GPU of Intel's: {remedy}")
    if not dist.is_xccl_available():
        raise UserError(f"{where} has no xccl, through which they talk: {remedy}")


def make_deterministic() -> None:
    """Let kernels add in one order, for the rest of this process; what cannot, raises.

    Attention's backward on GPUs is the part that needs it, and cuBLAS where it has several streams.
    """
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_REPEATS[0])
    if workspace not in CUBLAS_REPEATS:
        raise UserError(
            f"--deterministic-mode: CUBLAS_WORKSPACE_CONFIG={workspace} lets cuBLAS add in any"
            f" order: unset it, or set it to {' or '.join(CUBLAS_REPEATS)}"
        )
    torch.use_deterministic_algorithms(True)
    # Compiled sums would choose their order by which was faster in a trial (torch._inductor.config)
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
    # Every tensor that is made empty is filled before it is read: to fill it twice costs bandwidth
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def let_segments_grow() -> None:
    """torch's memory of a GPU in segments that grow, unless the user's environment says how.

    In those of fixed size lengths that change leave holes. Acts before the first use of a GPU.
    """
    if torch.version.cuda and not any(os.environ.get(name) for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


def start_distributed(device: torch.device) -> None:
    """Start torch.distributed from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, once.

    Without WORLD_SIZE this process is one rank alone, which needs no port to meet at.
    """
    if device.type == "cuda":
        let_segments_grow()
    if device.type != "cpu":
        getattr(torch, device.type).set_device(device)
    if dist.is_initialized():
        return
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # else DeepSpeed goes by what it sees
    backend = BACKENDS[device.type]
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    else:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)


def stop_distributed() -> None:
    """End all process groups; a rank that failed skips this, for the others may never come."""
    dist.destroy_process_group()
    mpi.finish()
