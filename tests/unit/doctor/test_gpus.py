"""GPUs before a run: stand-ins for nvidia-smi, and a tree such as AMD's driver shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longseq.doctor.gpus import idle_gpus, read_gpus, unsaid

Put = Callable[[dict[str, list[Any]]], None]
# As the real one: values in the order asked for, and an error for a field that it does not know
NVIDIA_SMI = """#!/usr/bin/env python3
import json, sys
if sys.argv[1] == "-L":
    print("GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5a01-c7)")
    print("  MIG 1g.5gb      Device  0: (UUID: MIG-77-1)")
    print("  MIG 1g.5gb      Device  1: (UUID: MIG-77-2)")
    print("GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5a02-85)")
    sys.exit()
fields = sys.argv[1].split("=")[1].split(",")
known = json.load(open({path!r}))
for field in fields:
    if field not in known:
        print(f'Field "{{field}}" is not a valid field to query.\\n')
        sys.exit(2)
for n in range(2):
    print(", ".join(str(known[field][n]) for field in fields))
"""
WELL: dict[str, list[Any]] = {
    "name": ["NVIDIA A100-SXM4-40GB"] * 2,
    "pci.bus_id": ["00000000:C7:00.0", "00000000:85:00.0"],
    "driver_version": ["550.54.15"] * 2,
    "memory.used": [4, 2048],
    "ecc.errors.uncorrected.volatile.total": [0, 0],
    "remapped_rows.failure": ["No", "No"],
    "remapped_rows.pending": ["No", "No"],
    **{
        f"clocks_throttle_reasons.{name}": ["Not Active"] * 2
        for name in (
            "hw_slowdown",
            "hw_thermal_slowdown",
            "hw_power_brake_slowdown",
            "sw_thermal_slowdown",
        )
    },
}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    def put(known: dict[str, list[Any]]) -> None:
        (tmp_path / "known.json").write_text(json.dumps(known))
        program = tmp_path / "nvidia-smi"
        program.write_text(NVIDIA_SMI.format(path=str(tmp_path / "known.json")))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


def test_all_is_read(smi: Put) -> None:
    smi(WELL)
    first, second = read_gpus() or []
    assert first == {
        "number": 0,
        "name": "NVIDIA A100-SXM4-40GB",
        "address": "0000:c7:00.0",
        "driver": "550.54.15",
        "taken_gib": 4 / 1024,
        "ecc": 0.0,
        "remap_failed": False,
        "remap_waits": False,
        "slowed": [],
    }
    assert second["taken_gib"] == 2.0
    assert unsaid([first, second]) == []


def test_faults_are_read(smi: Put) -> None:
    smi(
        WELL
        | {
            "ecc.errors.uncorrected.volatile.total": [0, 7],
            "remapped_rows.pending": ["No", "Yes"],
            "clocks_throttle_reasons.hw_thermal_slowdown": ["Active", "Not Active"],
        }
    )
    first, second = read_gpus() or []
    assert (first["slowed"], second["slowed"]) == (["heat"], [])
    assert (second["ecc"], second["remap_waits"], second["remap_failed"]) == (7.0, True, False)


def test_what_a_driver_does_not_know_is_none(smi: Put) -> None:
    """An old one has no remapped rows; a small card has no ECC; a new one renamed the clocks'."""
    old = {key: value for key, value in WELL.items() if not key.startswith(("remap", "clocks"))}
    smi(
        old
        | {
            "ecc.errors.uncorrected.volatile.total": ["[N/A]"] * 2,
            "retired_pages.pending": ["No"] * 2,
        }
    )
    gpus = read_gpus() or []
    assert (gpus[0]["ecc"], gpus[0]["remap_failed"], gpus[0]["remap_waits"]) == (None, None, False)
    assert gpus[0]["slowed"] is None
    assert unsaid(gpus) == ["memory errors", "throttling"]
    smi(old | {"clocks_event_reasons.hw_slowdown": ["Active", "Not Active"]})
    assert [gpu["slowed"] for gpu in read_gpus() or []] == [["hardware"], []]


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ("1", [1]),
        ("1, 0", [1, 0]),
        ("GPU-5a02-85", [1]),
        ("GPU-5a02", [1]),
        ("GPU-5a", []),  # which of two?
        ("MIG-77-2", [0]),
        ("MIG-77", []),
        ("0,GPU-5a02", [0, 1]),
        ("0,2,1", [0]),  # a name of none hides those behind it
        ("7", []),
        ("-1", []),
        ("", []),
        ("A100", []),
    ],
)
def test_gpus_that_are_hidden_are_left_out(
    visible: str, numbers: list[int], smi: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(WELL | {"memory.used": [40000, 4]})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = read_gpus() or []
    assert [gpu["number"] for gpu in gpus] == numbers
    assert [gpu["address"][5:7] for gpu in gpus] == [("c7", "85")[n] for n in numbers]
    part = visible.startswith("MIG")  # whose memory is not told apart
    assert [gpu["taken_gib"] > 1 for gpu in gpus] == [n == 0 and not part for n in numbers]


@pytest.mark.parametrize(
    ("taken", "waits", "least"),
    [
        ([[4, 5]], 0, [4, 5]),
        ([[40000, 4], [40000, 4], [30, 900]], 2, [30, 4]),  # a rank that was killed
        ([[40000, 4]] * 9, 4, [40000, 4]),  # somebody else's
    ],
)
def test_gpus_of_a_run_that_ends_are_waited_for(
    taken: list[list[int]], waits: int, least: list[int], smi: Put
) -> None:
    waited: list[float] = []

    def show() -> None:
        smi(WELL | {"memory.used": taken[min(len(waited), len(taken) - 1)]})

    def wait(seconds: float) -> None:
        waited.append(seconds)
        show()

    show()
    gpus = idle_gpus(wait) or []
    assert [gpu["taken_gib"] * 1024 for gpu in gpus] == least
    assert waited == [2.0] * waits


def test_no_nvidia_smi_and_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus(str(tmp_path)) is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert read_gpus(str(tmp_path)) is None


def test_amds_are_read_from_the_kernels_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "module/amdgpu").mkdir(parents=True)
    (tmp_path / "module/amdgpu/version").write_text("6.3.6\n")
    for card, taken, errors in (
        ("card1", 2**30, "ue: 0\nce: 3\n"),
        ("card10", 0, "ue: 2\nce: 0\n"),
    ):
        device = tmp_path / "class/drm" / card / "device"
        (device / "ras").mkdir(parents=True)
        (device / "mem_info_vram_used").write_text(f"{taken}\n")
        (device / "ras/umc_err_count").write_text(errors)
    (tmp_path / "class/drm/card1-DP-1").mkdir()
    (tmp_path / "class/drm/card0/device").mkdir(parents=True)  # the board's own graphics
    first, second = read_gpus(str(tmp_path)) or []
    assert (first["driver"], first["taken_gib"], first["ecc"]) == ("6.3.6", 1, 0)
    assert (second["taken_gib"], second["ecc"]) == (0, 2)
    assert unsaid([first, second]) == ["throttling"]
