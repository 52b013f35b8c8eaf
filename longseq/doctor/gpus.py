"""A host's GPUs before a run: in use, faulty, slowed down, and by which driver.

    read_gpus()     # [{"name": "NVIDIA A100", "taken_gib": 0.01, "ecc": 0, "slowed": [], …}]
    idle_gpus()     # the same; where one is in use it may be by a run that is ending: asked again

NVIDIA's are asked of nvidia-smi, and those that CUDA_VISIBLE_DEVICES hides are left out: they are
somebody else's. AMD's are read from the kernel's files: amd-smi and rocm-smi print them in another
form with each release. Every key is there for every GPU; None is what this driver does not say.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GPU = dict[str, Any]
IDLE_GIB = 2.0  # a GPU that nobody uses has less memory taken than this
LOOKS, BETWEEN_LOOKS = 5, 2.0  # at GPUs in use, and seconds: what was killed lets go of them late
# key → nvidia-smi's fields for it, the first that its release knows
FIELDS = {
    "name": ["name"],
    "address": ["pci.bus_id"],
    "driver": ["driver_version"],
    "taken_mib": ["memory.used"],
    "ecc": ["ecc.errors.uncorrected.volatile.total"],
    "remap_failed": ["remapped_rows.failure"],
    "remap_waits": ["remapped_rows.pending", "retired_pages.pending"],
    **{
        key: [f"clocks_throttle_reasons.{field}", f"clocks_event_reasons.{field}"]
        for key, field in (
            ("hardware", "hw_slowdown"),
            ("heat", "hw_thermal_slowdown"),
            ("power", "hw_power_brake_slowdown"),
            ("driver's heat limit", "sw_thermal_slowdown"),
        )
    },
}
SLOWED = ("hardware", "heat", "power", "driver's heat limit")
UUID, IDENTITY = re.compile("GPU-|MIG-"), re.compile(r"\(UUID: (\S+)\)")
UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')


def read_gpus(sysfs: str = "") -> list[GPU] | None:
    """The GPUs of this host: NVIDIA's, else AMD's, else None."""
    root = Path(sysfs or os.environ.get("LONGSEQ_SYSFS", "/sys"))
    found = nvidia()
    return amd(root) if found is None else found


def idle_gpus(wait: Callable[[float], None] = time.sleep) -> list[GPU] | None:
    """`read_gpus`, a few times while one of them is in use; of each the least memory it had taken,
    as the other ranks of a probe begin to use theirs.
    """
    gpus = read_gpus()
    for _ in range(LOOKS - 1):
        if not any(gpu["taken_gib"] > IDLE_GIB for gpu in gpus or []):
            break
        wait(BETWEEN_LOOKS)
        for gpu, now in zip(gpus or [], read_gpus() or [], strict=False):
            gpu["taken_gib"] = min(gpu["taken_gib"], now["taken_gib"])
    return gpus


def unsaid(gpus: list[GPU]) -> list[str]:
    """What is known of none of these GPUs, in words."""
    words = {"ecc": "memory errors", "slowed": "throttling", "driver": "the driver's version"}
    return [word for key, word in words.items() if gpus and all(g[key] is None for g in gpus)]


# ---------------------------------------------------------------- NVIDIA


def nvidia() -> list[GPU] | None:
    """By nvidia-smi; None where it is not here, or fails."""
    wanted = {key: list(names) for key, names in FIELDS.items()}
    for _ in range(sum(map(len, FIELDS.values())) + 1):  # an old one knows fewer fields
        asked = {key: names[0] for key, names in wanted.items() if names}
        done = _nvidia_smi(
            f"--query-gpu={','.join(asked.values())}", "--format=csv,noheader,nounits"
        )
        if done is None:
            return None
        if done.returncode == 0:
            rows = [line.split(", ") for line in done.stdout.splitlines() if ", " in line]
            gpus = [_gpu(n, dict(zip(asked, row, strict=False))) for n, row in enumerate(rows)]
            return in_sight(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
        unknown = UNKNOWN_FIELD.search(done.stdout + done.stderr)
        if unknown is None:
            return None
        for names in wanted.values():
            if unknown[1] in names:
                names.remove(unknown[1])
    return None


def _nvidia_smi(*words: str) -> subprocess.CompletedProcess[str] | None:
    command = ["nvidia-smi", *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None


def in_sight(gpus: list[GPU], visible: str | None) -> list[GPU]:
    """Those of `gpus` that CUDA_VISIBLE_DEVICES names, in its order; None: all.

    Numbers, or unique beginnings of UUIDs. As in CUDA, a name of no GPU hides it and all behind it.
    """
    if visible is None:
        return gpus
    named = [name.strip() for name in visible.split(",")]
    identities: list[tuple[int, str]] = []  # of GPUs, and of their parts
    if any(not name.isdecimal() for name in named):
        identities = _identities()
    found: list[GPU] = []
    for name in named:
        if name.isdecimal():
            numbers = [int(name)]
        else:
            whose = [n for n, identity in identities if identity.startswith(name)]
            numbers = whose if UUID.match(name) else []
        if len(numbers) != 1 or numbers[0] >= len(gpus):
            break
        part = name.startswith("MIG-")  # the memory of others' parts is no concern of ours
        gpu = gpus[numbers[0]]
        found.append(gpu | {"taken_gib": 0.0} if part else gpu)
    return found


def _identities() -> list[tuple[int, str]]:
    """Of each GPU and each part of it (MIG): the GPU's number, the UUID."""
    listed, number, found = _nvidia_smi("-L"), -1, []
    for line in listed.stdout.splitlines() if listed else []:
        number += line.startswith("GPU ")
        if match := IDENTITY.search(line):
            found.append((number, match[1]))
    return found


def _gpu(number: int, said: dict[str, str]) -> GPU:
    """One GPU, from nvidia-smi's words by the keys of FIELDS."""
    flags = {key: _flag(said.get(key)) for key in ("remap_failed", "remap_waits", *SLOWED)}
    slowed = [key for key in SLOWED if flags[key]]
    return {
        "number": number,
        "name": said.get("name"),
        "address": said.get("address", "").lower()[-12:]
        or None,  # its domain has eight digits there
        "driver": said.get("driver"),
        "taken_gib": (_number(said.get("taken_mib")) or 0.0) / 1024,
        "ecc": _number(said.get("ecc")),
        "remap_failed": flags["remap_failed"],
        "remap_waits": flags["remap_waits"],
        "slowed": None if all(flags[key] is None for key in SLOWED) else slowed,
    }


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # "[N/A]"
        return None


def _flag(text: str | None) -> bool | None:
    return {
        "Active": True,
        "Yes": True,
        "1": True,
        "Not Active": False,
        "No": False,
        "0": False,
    }.get((text or "").strip())


# ---------------------------------------------------------------- AMD


def amd(sysfs: Path) -> list[GPU] | None:
    """By the files of the kernel's amdgpu; None where it drives nothing here."""
    found: list[GPU] = []
    version = _word(sysfs / "module/amdgpu/version")
    for card in sorted((sysfs / "class/drm").glob("card[0-9]*"), key=_card):
        device = card / "device"
        taken = _number(_word(device / "mem_info_vram_used"))
        if taken is None or not card.name[4:].isdecimal():  # "card0-DP-1" is a plug
            continue
        errors = re.search(r"ue: *(\d+)", _text(device / "ras/umc_err_count"))
        found.append(
            {
                "number": len(found),
                "name": _word(device / "product_name") or "AMD GPU",
                "address": device.resolve().name,
                "driver": version,
                "taken_gib": taken / 2**30,
                "ecc": float(errors[1]) if errors else None,
                "remap_failed": None,
                "remap_waits": None,
                "slowed": None,
            }
        )
    return found or None


def _card(path: Path) -> tuple[int, str]:
    number = re.match(r"card(\d+)", path.name)
    return int(number[1]) if number else 0, path.name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _word(path: Path) -> str | None:
    return _text(path).strip() or None
