"""Several hosts on one machine: each has a name, a network address and an /etc/hosts of its own.

They share the files, as the nodes of a cluster do, and end with the process that made them. Needs
root; `why_not()` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tests.launch.shell import write_script

SSH = """#!/bin/bash
# A stand-in for ssh: drops its options and runs the command on the simulated host
while [[ $1 == -* ]]; do case $1 in -[oplF]) shift 2 ;; *) shift ;; esac; done
fail() {{ echo "ssh: $1" >&2 && exit 255; }}
pid=$(cat "{folder}/pid.${{1%%.*}}") || fail "Could not resolve hostname $1"
[[ $pid != dead ]] || fail "connect to host $1 port 22: No route to host"
shift
# Nothing that the caller has open crosses to another host: a launcher's listening socket would
# live on in the processes over there, and they would never see the launcher go
for fd in /proc/self/fd/*; do fd=${{fd##*/}} && ((fd <= 2)) || exec {{fd}}>&-; done
exec nsenter -t "$pid" -n -u -m -- \\
    env -i HOME="$HOME" PATH=/usr/bin:/bin /bin/bash -c "cd '$PWD' && $*"
"""

# What keeps a host's namespaces: until the pipe from its maker is closed, which the maker's death
# does as well, however it died; then all that lives in them ends
HOLD = """{command} && echo up && trap '' HUP INT TERM && read -r _
while :; do
    left=0
    for place in /proc/[0-9]*; do
        [ $place != /proc/$$ ] && [ $place/ns/net -ef /proc/$$/ns/net ] || continue
        kill -9 ${{place#/proc/}} && left=1
    done
    [ $left = 1 ] || exit 0
    sleep 0.05
done 2>/dev/null
"""

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def why_not(*programs: str) -> str | None:
    """Why there can be no simulated hosts here, or None."""
    if os.geteuid() != 0:
        return "simulated hosts need root"
    missing = [name for name in ("unshare", "nsenter", "ip", *programs) if not shutil.which(name)]
    if missing:
        return f"not here: {', '.join(missing)}"
    probe = "ip link add br0 type bridge && hostname x"
    done = subprocess.run(["unshare", "-n", "-u", "-m", "sh", "-c", probe], capture_output=True)
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.decode().strip()}"


class Cluster:
    """Hosts `names` at 10.77.0.1 and on; a context manager."""

    def __init__(self, folder: Path, names: list[str], suffix: str = "") -> None:
        self.folder, self.names = folder, names
        self._holders: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"10.77.0.{k} {n} {n}{suffix}\n" for k, n in enumerate(names, 1)]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
        self.ssh = str(write_script(folder / "ssh", SSH.format(folder=folder)))

    def __enter__(self) -> Cluster:
        switch = self._hold("-n", "ip link add br0 type bridge && ip link set br0 up")
        for number, name in enumerate(self.names, 1):
            mount = f"mount --bind '{self.folder}/hosts' /etc/hosts"
            pid = self._hold("-n", "-u", "-m", f"hostname {name} && {mount}")
            (self.folder / f"pid.{name}").write_text(str(pid))
            veth = f"ip link add v{number} netns {switch} type veth peer name eth0 netns {pid}"
            subprocess.run(veth.split(), check=True)
            self._in(switch, f"ip link set v{number} master br0 up")
            self._in(pid, f"ip addr add 10.77.0.{number}/24 dev eth0")
            self._in(pid, "ip link set eth0 up")
            self._in(pid, "ip link set lo up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for holder in self._holders:
            assert holder.stdin is not None
            holder.stdin.close()
        for holder in self._holders:
            holder.wait()

    def _hold(self, *words: str) -> int:
        """A process that keeps new namespaces, after a command in them; returns its id."""
        holder = subprocess.Popen(
            ["unshare", *words[:-1], "sh", "-c", HOLD.format(command=words[-1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's signals are for its maker, who needs it still
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        return holder.pid

    @staticmethod
    def _in(pid: int, command: str) -> None:
        subprocess.run(["nsenter", "-t", str(pid), "-n", *command.split()], check=True)

    def enter(self, name: str) -> list[str]:
        """The command that leads to a host."""
        pid = (self.folder / f"pid.{name}").read_text()
        return ["nsenter", "-t", pid, "-n", "-u", "-m", "--"]

    def slow(self, name: str, rate: str) -> None:
        """From now on this host sends and receives so much, as "20mbit"; "" ends that."""
        words = f"add dev {{}} root tbf rate {rate} burst 32kbit latency 400ms"
        words = words if rate else "del dev {} root"
        pid = int((self.folder / f"pid.{name}").read_text())
        self._in(pid, f"tc qdisc {words.format('eth0')}")
        plug = f"v{self.names.index(name) + 1}"
        self._in(self._holders[0].pid, f"tc qdisc {words.format(plug)}")

    def unplug(self, name: str) -> None:
        """From now on nothing reaches this host."""
        (self.folder / f"pid.{name}").write_text("dead")

    def freeze(self, name: str) -> None:
        """As where the power fails: nobody gets a last word of it, and connections stay open."""
        pid = int((self.folder / f"pid.{name}").read_text())
        self._in(pid, "ip link set eth0 down")
        for process in self._processes(pid):
            os.kill(process, signal.SIGSTOP)
        self.unplug(name)

    @staticmethod
    def _processes(holder: int) -> list[int]:
        """Those in the network namespace of `holder`, itself apart."""
        place, found = os.readlink(f"/proc/{holder}/ns/net"), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/net") == place and int(folder.name) != holder:
                    found.append(int(folder.name))
        return found


def end_on_signals() -> None:
    """A signal ends this as an error does, past all that cleans up, which no second one cuts short.

    So does a terminal that goes away. Of kill -9 nothing here hears: hosts and disks do.
    """
    told = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # as nohup's

    def end(number: int, _frame: object) -> None:
        for each in told:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in told:
        signal.signal(each, end)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own at `folder`; it goes with this process, however that ends."""
    mount = 'mount -t tmpfs -o "size=$1" tmpfs "$0" && echo up && read -r _; umount -l "$0"'
    with subprocess.Popen(
        ["sh", "-c", mount, str(folder), size],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"up\n"
        yield
