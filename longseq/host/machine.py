"""What this machine has for attention and products: its GPUs' compute capability, packages'
versions, and what its CPU can do.

Standard library only, and quick: asked before torch is imported, or where there is none.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path

CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True)
class Machine:
    """`capability` of the weakest GPU in sight, None without one; versions by package.

    Without torch among them the packages are still to be installed, and what is missing says
    nothing.
    """

    capability: tuple[int, int] | None = None
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def installed(self) -> bool:
        return self.version("torch") != ""

    def version(self, package: str) -> str:
        """The version of `package`, empty if it is not here."""
        return dict(self.versions).get(package, "")


@lru_cache(maxsize=1)
def has_avx512() -> bool:
    """Whether products in half precision have instructions of their own on this CPU."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512bw" in text.split()


@lru_cache(maxsize=1)
def this_machine(packages: tuple[tuple[str, tuple[str, ...]], ...]) -> Machine:
    """The machine that this process runs on, as far as CUDA_VISIBLE_DEVICES shows it.

    packages: each with the names under which it is distributed.
    """
    found = [(name, _version(names)) for name, names in packages]
    return Machine(gpu_capability(), tuple(found))


def without_packages(machine: Machine) -> Machine:
    """`machine` before anything is installed."""
    return replace(machine, versions=())


def in_environment() -> bool:
    """Does this Python stand in the environment that install.sh makes, as the ranks' does?"""
    return Path(sys.prefix).is_relative_to(Path(__file__).resolve().parents[2] / "venvs")


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def gpu_capability(library: str = "libcuda.so.1") -> tuple[int, int] | None:
    """The lowest compute capability among the GPUs in sight, by NVIDIA's driver."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return None
    return min((_capability(driver, number) for number in range(count.value)), default=None)


def device_in_sight(asked: str) -> str:
    """What --device means here before torch is imported: auto is cuda where a GPU is in sight."""
    if asked != "auto":
        return asked
    return "cpu" if gpu_capability() is None else "cuda"


def _capability(driver: ctypes.CDLL, number: int) -> tuple[int, int]:
    device, value, parts = ctypes.c_int(), ctypes.c_int(), []
    driver.cuDeviceGet(ctypes.byref(device), number)
    for attribute in CAPABILITY:
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(value.value)
    return parts[0], parts[1]
