"""From reports as hosts write them: who is bad, by name, and what is only worth a note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longseq.doctor.judge import judge
from longseq.doctor.verdict import Wanted, table
from longseq.errors import UserError

GPU: dict[str, Any] = {
    "number": 0,
    "name": "NVIDIA A100-SXM4-40GB",
    "address": "0000:c7:00.0",
    "driver": "550.54.15",
    "taken_gib": 0.01,
    "ecc": 0.0,
    "remap_failed": False,
    "remap_waits": False,
    "slowed": [],
}
HOSTS = ["alpha", "beta", "gamma", "delta"]
WELL: dict[str, Any] = {
    "expected": "",
    "python": "3.11.7",
    "executable": "/venv/bin/python",
    "versions": {"torch": "2.13.0", "deepspeed": "0.19.8"},
    "gpus": [GPU] * 4,
    "limits": {"memlock": None, "nofile": 20000.0, "nproc": 90000.0},
    "scratch_gib": 100.0,
    "shared_memory_gib": 100.0,
    "output_gib": 100.0,
    "output_quota_gib": None,
    "data": "",
    "port": "",
}
NET: dict[str, Any] = {
    "right": True,
    "clock_seconds": 0.01,
    "bytes": 8,
    "seconds": 1e-9,
    "gb_per_second": 8.0,
    "transport": "AWS Libfabric",
}
GPUS, CPUS = Wanted("cuda", 4, 1.0, "libfabric"), Wanted("cpu", 4)
LOCKED = {"memlock": 2.0**16, "nofile": 20000.0, "nproc": 90000.0}


def fourth(**other: Any) -> list[dict[str, Any]]:
    """Four GPUs, the last of which is otherwise."""
    return [GPU, GPU, GPU, GPU | {"number": 3} | other]


def told(
    folder: Path, host: str, net: dict[str, Any] | None = None, ranks: int = 4, **other: Any
) -> None:
    """Write what the probe on that host would have written."""
    first = HOSTS.index(host) * ranks
    report = WELL | {"host": host} | other
    (folder / f"report-{first}.json").write_text(json.dumps(report))
    found = json.dumps({"host": host} | NET | (net or {}))
    for rank in range(first, first + ranks):
        (folder / f"net-{rank}.json").write_text(found)


@pytest.mark.parametrize(
    ("other", "net", "reason"),
    [
        ({"python": "3.12.1"}, {}, "Python 3.12.1, the others 3.11.7"),
        ({"versions": {"torch": "2.12.0", "deepspeed": "0.19.8"}}, {}, "torch 2.12.0, the others"),
        ({"versions": {"torch": "2.13.0"}}, {}, "deepspeed missing, the others 0.19.8"),
        ({"gpus": [GPU] * 3}, {}, "3 GPU(s) in sight, 4 are needed"),
        ({"gpus": None}, {}, "0 GPU(s) in sight"),
        ({"gpus": fourth(taken_gib=30)}, {}, "GPU 3 is in use"),
        ({"gpus": fourth(ecc=2.0)}, {}, "GPU 3 has had 2 memory error(s)"),
        ({"gpus": fourth(remap_failed=True)}, {}, "GPU 3 could not replace faulty rows"),
        ({"gpus": fourth(slowed=["heat"])}, {}, "GPU 3 is slowed down (heat)"),
        ({"limits": WELL["limits"] | {"nofile": 256.0}}, {}, "256 open files allowed, 288 are"),
        ({"limits": WELL["limits"] | {"nproc": 100.0}}, {}, "100 processes allowed, 512 are"),
        ({"limits": LOCKED}, {}, "0 MiB may be locked, 64 are needed (ulimit -l)"),
        ({}, {"transport": "Socket", "interface": "eth0"}, "NCCL took Socket (eth0), where the"),
        ({"scratch_gib": 0.2}, {}, "0.20 GiB are free in TMPDIR"),
        ({"shared_memory_gib": 0.1}, {}, "/dev/shm"),
        ({"output_gib": None}, {}, "cannot write to OUTPUT_DIR"),
        ({"data": "/x.fa: Permission denied"}, {}, "cannot read the data: /x.fa: Permission"),
        ({"port": "port 20007: Address already in use"}, {}, "ranks cannot meet: port 20007"),
        ({}, {"clock_seconds": -63.0}, "the clock is -63.0 s off"),
        ({}, {"right": False}, "wrong sum"),
    ],
)
def test_a_bad_host_is_named_with_the_reason(
    tmp_path: Path, other: dict[str, Any], net: dict[str, Any], reason: str
) -> None:
    for host in HOSTS:
        told(tmp_path, host)
    assert judge(tmp_path, HOSTS, GPUS).fit
    told(tmp_path, "gamma", net, **other)
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert list(verdict.bad) == ["gamma"]
    assert reason in verdict.bad["gamma"]
    assert verdict.good == ["alpha", "beta", "delta"]
    assert any(line.startswith("gamma  BAD") and reason in line for line in table(verdict))


def test_what_no_host_can_import_is_the_environments(tmp_path: Path) -> None:
    """Where the others can, it is a host's own, and they wait for it in vain."""
    broken = {"cannot_import": "ImportError: libcudart.so.12: cannot open shared object file"}
    for host in HOSTS:
        told(tmp_path, host, broken if host == "beta" else {"error": "RuntimeError: timed out"})
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert verdict.bad == {"beta": f"cannot import torch: {broken['cannot_import']}"}
    for host in HOSTS:
        told(tmp_path, host, broken)
    with pytest.raises(UserError) as raised:
        judge(tmp_path, HOSTS, GPUS)
    assert str(raised.value) == (
        f"torch cannot be imported on any host ({broken['cannot_import']}): ./install.sh --recreate"
        " makes the environment anew"
    )


def test_who_says_nothing_does_not_answer(tmp_path: Path) -> None:
    for host in HOSTS[:-1]:
        told(tmp_path, host, ranks=1)
    verdict = judge(tmp_path, HOSTS, CPUS)
    assert verdict.bad == {"delta": "does not answer"}
    assert verdict.slowest is None


def test_who_does_not_come_to_the_all_reduce_is_named(tmp_path: Path) -> None:
    """Its imports take longer than the others wait, and they have an error to tell."""
    for host in HOSTS:
        told(tmp_path, host, ranks=1)
    (tmp_path / "net-1.json").unlink()
    verdict = judge(tmp_path, HOSTS, CPUS)
    assert list(verdict.bad) == ["beta"]
    assert "did not come to the all-reduce in time" in verdict.bad["beta"]


def test_little_room_for_the_output_is_a_remark(tmp_path: Path) -> None:
    for host in HOSTS:
        told(tmp_path, host, ranks=1, output_gib=2.0)
    verdict = judge(tmp_path, HOSTS, CPUS)
    assert verdict.fit
    assert verdict.remarks["alpha"] == ["2.0 GiB are left for the output"]


@pytest.mark.parametrize(
    ("other", "remark"),
    [
        ({"output_quota_gib": 1.5}, "the quota leaves 1.5 GiB for the output"),
        ({"gpus": [GPU | {"driver": "535.1"}] * 4}, "driver 535.1, the others 550.54.15"),
        ({"gpus": [GPU | {"ecc": None}] * 4}, "its driver does not say: memory errors"),
        ({"gpus": fourth(remap_waits=True)}, "GPU 3 waits for a reset"),
        ({"gpus": fourth(slowed=["driver's heat limit"])}, "GPU 3 is slowed down by its driver"),
        ({"limits": WELL["limits"] | {"nofile": 1024.0}}, "not that of the others: nofile"),
    ],
)
def test_what_makes_no_host_bad_is_said(tmp_path: Path, other: dict[str, Any], remark: str) -> None:
    for host in HOSTS:
        told(tmp_path, host)
    told(tmp_path, "gamma", **other)
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert verdict.fit
    assert [host for host, remarks in verdict.remarks.items() if remarks] == ["gamma"]
    assert any("note: " in line and remark in line for line in table(verdict))


# ---------------------------------------------------------------- what no host is at fault for


def test_a_fall_to_tcp_on_all_hosts_is_a_fault_of_none(tmp_path: Path) -> None:
    for host in HOSTS:
        told(tmp_path, host, {"transport": "Socket", "interface": "hsn0"})
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert (verdict.bad, verdict.fit) == ({}, False)
    assert "NCCL took Socket (hsn0), where the machine has libfabric" in table(verdict)[-1]
    anywhere = judge(tmp_path, HOSTS, Wanted("cuda", 4))
    assert anywhere.fit
    assert anywhere.notes == ["GPUs talk over TCP: Socket (hsn0)"]


def test_a_slow_host_is_named_and_a_slow_network_is_not(tmp_path: Path) -> None:
    for host in HOSTS:
        pairs = [
            {"with": other, "bytes": 2**20, "seconds": 0.4 if "delta" in (host, other) else 1e-4}
            for other in HOSTS
            if other != host
        ]
        told(tmp_path, host, {"pairs": pairs})
    verdict = judge(tmp_path, HOSTS, Wanted("cuda", 4))
    assert list(verdict.bad) == ["delta"]
    assert "slow: at most 0.0105 GB/s" in verdict.bad["delta"]
    slow = judge(tmp_path, HOSTS, Wanted("cuda", 4, least=100.0))
    assert (slow.bad, slow.fit) == ({}, False)
    assert "no two hosts exchange 100 GB/s" in slow.faults[0]


def test_where_nobody_came_to_the_all_reduce_the_time_is_named(tmp_path: Path) -> None:
    for host in HOSTS:
        told(tmp_path, host, ranks=1)
    for path in tmp_path.glob("net-*.json"):
        path.unlink()
    verdict = judge(tmp_path, HOSTS, CPUS)
    assert (verdict.bad, verdict.fit) == ({}, False)
    assert "no rank came to the all-reduce in time" in table(verdict)[-1]
    assert "PREFLIGHT_SECONDS" in table(verdict)[-1]


@pytest.mark.parametrize("wanted", [GPUS, CPUS])
def test_a_lone_host_must_add_up_as_well(tmp_path: Path, wanted: Wanted) -> None:
    """Its ranks may crash or hang as those of several do."""
    host = "alpha"
    ranks = 4 if wanted is GPUS else 1
    told(tmp_path, host, ranks=ranks)
    assert judge(tmp_path, [host], wanted).fit
    (tmp_path / f"net-{ranks - 1}.json").unlink()
    verdict = judge(tmp_path, [host], wanted)
    assert (verdict.bad, verdict.fit) == ({}, False)
    who = "1 of 4 ranks on alpha did not come" if ranks > 1 else "the host answered, and no rank"
    assert table(verdict)[-1].startswith(who)


def test_a_slow_path_is_no_hosts_fault(tmp_path: Path) -> None:
    """Two switches, and a bad cable between them."""
    for host in HOSTS:
        pairs = [
            {"with": other, "bytes": 2**20, "seconds": 1e-4 if one_side(host, other) else 0.4}
            for other in HOSTS
            if other != host
        ]
        told(tmp_path, host, {"pairs": pairs}, ranks=1)
    verdict = judge(tmp_path, HOSTS, CPUS)
    assert (verdict.bad, verdict.fit) == ({}, False)
    assert "the path between alpha and gamma with 0.00262 GB/s is slow" in table(verdict)[-1]


def one_side(host: str, other: str) -> bool:
    return HOSTS.index(host) // 2 == HOSTS.index(other) // 2


def test_an_error_says_what_was_being_done(tmp_path: Path) -> None:
    for host in HOSTS:
        told(tmp_path, host)
    failed = {"error": "RuntimeError: timed out", "doing": "exchanging with alpha"}
    (tmp_path / "net-4.json").write_text(json.dumps({"host": "beta"} | failed))
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert not verdict.fit
    assert verdict.faults == [
        "the all-reduce failed (beta exchanging with alpha): RuntimeError: timed out"
    ]


def test_a_name_that_leads_nowhere_is_the_reason(tmp_path: Path) -> None:
    """Debian's own line in /etc/hosts: 127.0.1.1 and the host's name."""
    for host in HOSTS:
        told(tmp_path, host, ranks=1)
    lost = {"interface": "lo", "address": "127.0.1.1", "error": "RuntimeError: refused"}
    (tmp_path / "net-2.json").write_text(json.dumps({"host": "gamma"} | lost))
    assert "GLOO_SOCKET_IFNAME" in judge(tmp_path, HOSTS, CPUS).bad["gamma"]


def test_ranks_that_are_far_from_their_gpu_are_said(tmp_path: Path) -> None:
    place = {"host": "alpha", "cpus": "0-7", "gpu": "0000:c7:00.0", "near": False}
    for host in HOSTS:
        told(tmp_path, host)
    (tmp_path / "net-0.json").write_text(json.dumps({"host": "alpha"} | NET | {"place": place}))
    verdict = judge(tmp_path, HOSTS, GPUS)
    assert verdict.fit
    assert "1 rank(s) have no CPU near their GPU (0)" in verdict.notes[0]
