"""How much memory this rank took at most, in GiB: on the GPU where there is one, else resident in
RAM.
"""

import os
import resource
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def _status_gib(field: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 2**20
    return None


def resident_gib() -> float:
    """Resident memory of this process now; 0 where the system does not say."""
    return _status_gib("VmRSS") or 0.0


def peak_resident_gib() -> float:
    """Largest resident memory of this process since its start or the last `reset_peak`."""
    peak = _status_gib("VmHWM")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return peak


def reset_peak() -> bool:
    """Start measuring the resident peak afresh; False where the kernel does not allow it."""
    try:
        descriptor = os.open(CLEAR, os.O_WRONLY)
        try:
            os.write(descriptor, b"5")  # 5: reset VmHWM, see proc(5)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def peak_memory_gib(device: str = "cpu") -> float:
    """The peak that limits this rank: what torch's allocator took from the GPU, else resident
    memory.
    """
    if device != "cuda":
        return peak_resident_gib()
    import torch

    return torch.cuda.max_memory_reserved() / 2**30
