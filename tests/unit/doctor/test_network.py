"""Over what ranks talk, from logs as NCCL's releases write them, and how long they wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from longseq.doctor import network
from longseq.doctor.judge import kind_of

# Lines of NCCL 2.18 to 2.28 (its src/init.cc, src/plugin/net.cc, src/transport/net_*.cc)
SOCKET = """x3:7:7 [0] NCCL INFO NET/Plugin: No plugin found (libnccl-net.so)
x3:7:9 [0] NCCL INFO NET/IB : No device found.
x3:7:9 [0] NCCL INFO NET/Socket : Using [0]hsn0:10.201.1.7<0> [1]hsn1:10.201.1.8<0>
x3:7:9 [0] NCCL INFO Using network Socket
"""
LIBFABRIC = """x3:7:9 [0] NCCL INFO NET/OFI Selected Provider is cxi (found 2 nics)
x3:7:9 [0] NCCL INFO Using network AWS Libfabric
"""
IB = """g1:7:9 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.1.1.1<0>
g1:7:9 [0] NCCL INFO Initialized NET plugin IB
g1:7:9 [0] NCCL INFO Assigned NET plugin IB to comm
g1:7:9 [0] NCCL INFO Using network IB
"""


@pytest.mark.parametrize(
    ("log", "name", "cards", "kind"),
    [
        (SOCKET, "Socket", "hsn0,hsn1", "tcp"),
        (LIBFABRIC, "AWS Libfabric", None, "libfabric"),
        (LIBFABRIC.replace("AWS Libfabric", "OFI"), "OFI", None, "libfabric"),
        (IB, "IB", "mlx5_0,mlx5_1", "ib"),
    ],
)
def test_nccls_network(tmp_path: Path, log: str, name: str, cards: str | None, kind: str) -> None:
    (tmp_path / "log").write_text(log)
    found = network.nccl_transport(tmp_path / "log")
    assert found == {"transport": name, "interface": cards}
    assert kind_of(name) == kind


def test_no_log_says_nothing(tmp_path: Path) -> None:
    assert network.nccl_transport(tmp_path / "log") == {}


def test_gloos_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.gloo_interface({"GLOO_SOCKET_IFNAME": "eth7"}) == {"interface": "eth7"}
    monkeypatch.setattr("socket.gethostbyname", lambda name: "127.0.1.1")
    assert network.gloo_interface({}) == {"interface": "lo", "address": "127.0.1.1"}


def test_the_all_reduce_waits_for_half_of_the_preflight() -> None:
    assert network.patience({"LONGSEQ_PREFLIGHT": "572"}).total_seconds() == 286
    assert network.patience({"LONGSEQ_PREFLIGHT": "40"}).total_seconds() == 30
    assert network.patience({}).total_seconds() == 30
