"""A real Slurm over the simulated hosts: munged and slurmctld on the first, a slurmd on each.

All of it ends with the hosts, and so with the process that made them.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.launch.cluster import Cluster

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun")

CONF = """ClusterName=simulated
SlurmctldHost={first}(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
MinJobAge=300
SchedulerParameters=sched_interval=1,batch_sched_delay=0,defer_batch
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=00:30:00 State=UP
"""


class Slurm:
    """Slurm on all hosts of `cluster`; a context manager. `env` leads its commands to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.folder = cluster, cluster.folder / "slurm"
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Slurm:
        (self.folder / "state").mkdir(parents=True)
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={name} NodeAddr=10.77.0.{k} CPUs=4 RealMemory=500"
            for k, name in enumerate(self.cluster.names, 1)
        )
        text = CONF.format(first=self.cluster.names[0], folder=self.folder, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\nIgnoreSystemd=yes\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in _MUNGE]
        first = self.cluster.enter(self.cluster.names[0])
        self._start(first, ["munged", "--foreground", "--force", f"--key-file={key}", *munge])
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start(first, ["slurmctld", "-D"])
        for name in self.cluster.names:
            self._start(self.cluster.enter(name), ["slurmd", "-D", "-N", name])
        count = len(self.cluster.names)
        self._wait(lambda: self.ask("sinfo", "-h", "-o", "%D %t").strip() == f"{count} idle", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ask("scancel", "--user=root", "--state=PENDING")
        self.ask("scancel", "--user=root")
        end = time.monotonic() + 15
        while self.ask("squeue", "-h").strip() and time.monotonic() < end:
            time.sleep(0.2)  # a daemon that ends before its jobs would leave their ranks behind
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def _start(self, enter: list[str], command: list[str]) -> None:
        with open(self.folder / f"{command[0]}.out", "ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    [*enter, *command],
                    env=os.environ | self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # __exit__ needs them after a Ctrl-C
                )
            )

    def _wait(self, test: object, what: str) -> None:
        end = time.monotonic() + 30
        while not test():  # type: ignore[operator]
            assert time.monotonic() < end, f"{what}: {self._logs()}"
            time.sleep(0.1)

    def _logs(self) -> str:
        return "".join(path.read_text()[-1500:] for path in Path(self.folder).glob("*.out"))

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints on the first host."""
        done = subprocess.run(
            [*self.cluster.enter(self.cluster.names[0]), *command],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout


_MUNGE = ("socket", "pid-file", "log-file", "seed-file")
