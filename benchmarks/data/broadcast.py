"""The environment to many hosts: a tree over them against each reading one shared folder.

    python -m benchmarks broadcast --hosts 8 --megabytes 32 --rate 400mbit

Hosts are simulated (tests/launch/cluster.py; root), each with a link of RATE and a disk of its own
in memory. One more holds the folder: as a file server, which every host reads for itself, or as
rank 0 of the tree. In turn, so that a busy machine burdens both; what the server sent is its link's
count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.launch.cluster import Cluster, why_not
from tests.parallel.ranks import ROOT

SERVE = """
import socket, subprocess, sys, threading
server = socket.create_server(("", 7000), backlog=64)
def serve(to):
    with to, subprocess.Popen(["tar", "-C", sys.argv[1], "-cf", "-", "."], stdout=-1) as tar:
        while piece := tar.stdout.read(1 << 20):
            to.sendall(piece)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""
READ = """
import socket, subprocess, sys
with socket.create_connection(("files", 7000)) as of, subprocess.Popen(
        ["tar", "-C", sys.argv[1], "-xf", "-"], stdin=-1) as tar:
    while piece := of.recv(1 << 20):
        tar.stdin.write(piece)
"""


def sent(cluster: Cluster) -> int:
    """Bytes that the server's link has sent."""
    path = "/sys/class/net/eth0/statistics/tx_bytes"
    words = [*cluster.enter("files"), "sh", "-c", "mount -t sysfs none /sys 2>&1; cat " + path]
    return int(subprocess.run(words, capture_output=True, text=True).stdout.split()[-1])


def timed(commands: list[tuple[list[str], dict[str, str]]]) -> float:
    """Seconds until all of these have ended well."""
    began = time.perf_counter()
    started = [subprocess.Popen(words, env=os.environ | env) for words, env in commands]
    codes = [one.wait(600) for one in started]
    if any(codes):
        sys.exit("a host failed")
    return time.perf_counter() - began


def arguments(parser: argparse.ArgumentParser) -> None:
    """How many hosts, how much, how fast their links."""
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=32)
    parser.add_argument("--rate", default="400mbit")


def main(options: argparse.Namespace) -> int:
    """Both in turn, three times."""
    if reason := why_not("tc"):
        sys.exit(f"broadcast: {reason}")
    names = ["files", *(f"host{n}" for n in range(options.hosts))]
    python, times, bytes_ = sys.executable, ([], []), ([], [])  # type: ignore[var-annotated]
    with tempfile.TemporaryDirectory(prefix="longseq-broadcast-") as parent:
        folder = Path(parent)
        source, disk = folder / "source", folder / "disk"
        source.mkdir()
        disk.mkdir()
        for number in range(4 * options.megabytes):
            (source / f"file{number}").write_bytes(os.urandom(1 << 18))
        with Cluster(folder / "cluster", names) as cluster:
            for name in names:
                cluster.slow(name, options.rate)
                mount = ["mount", "-t", "tmpfs", "none", str(disk)]
                subprocess.run([*cluster.enter(name), *mount], check=True)
            server = subprocess.Popen([*cluster.enter("files"), python, "-S", "-c", SERVE, source])
            time.sleep(2)
            for turn in range(3):
                before = sent(cluster)
                place = f"{disk}/shared{turn}"
                mkdir = ["sh", "-c", 'mkdir "$0" && exec "$@"', place]
                read = [*mkdir, python, "-S", "-c", READ, place]
                times[0].append(timed([([*cluster.enter(n), *read], {}) for n in names[1:]]))
                between = sent(cluster)
                words = [python, "-S", "-m", "longseq.host.broadcast", str(source)]
                env = {"WORLD_SIZE": str(len(names)), "MASTER_ADDR": "10.77.0.1"}
                env |= {"MASTER_PORT": "7001", "LONGSEQ_TOKEN": "t", "PYTHONPATH": str(ROOT)}
                tree = [
                    ([*cluster.enter(n), *words, f"{disk}/tree{turn}"], env | {"RANK": str(k)})
                    for k, n in enumerate(names)
                ]
                times[1].append(timed(tree))
                bytes_[0].append(between - before)
                bytes_[1].append(sent(cluster) - between)
            server.kill()
            server.wait()
    for what, took, count in zip(("each reads", "a tree"), times, bytes_, strict=True):
        seconds, mib = statistics.median(took), statistics.median(count) / 2**20
        print(
            f"{what:<12}{seconds:6.1f} s ({min(took):.1f} to {max(took):.1f}), {mib:.0f} MiB sent"
        )
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    print(f"the tree takes 1/{ratio:.1f} of the time")
    return 0
