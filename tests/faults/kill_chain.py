"""One chain of jobs under Slurm, to which something happens all the time, until it has trained.

    python -m tests.faults.kill_chain FOLDER [--jobs 12] [--seed S] [--each 40]

`./ALCF/submit.sh --chain` on simulated hosts (needs root). At a random moment of each job a process
is killed (a rank, srun, Slurm's own, a script), or the job cancelled, told to stop, started again,
or a host lost; hosts are exchanged between jobs, there are one or two of them with the same batch,
and the disk of the runs is full now and then. The last two jobs are left alone. The losses must be
those of one rank that nobody touched, to 1e-6, no iteration may be missing, nothing may be left
behind, and the chain must end once. FOLDER must be new. Prints a line for each thing that happened.
Killed itself, it leaves nothing but FOLDER.
On a busy machine, where each of them takes minutes, give fewer iterations (--each 10).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.faults.chain_events import EVENTS, fill, full_for, processes
from tests.launch.cluster import Cluster, end_on_signals, small_disk, why_not
from tests.launch.planned import runs_of
from tests.launch.shell import Tree
from tests.launch.slurm import PROGRAMS, Slurm

HOSTS = ["nid000001", "nid000002", "nid000003"]
NETWORK = """--num-layers 2 --hidden-size 64 --num-attention-heads 4 --eval-iters 0
--lr-decay-style constant --keep-last 3 --hang-timeout 60""".split()
SETTINGS = {
    "SEQ_LEN": "64",
    "GLOBAL_BATCH": "4",
    "MICRO_BATCH": "1",
    "LR": "1e-5",
    "MIN_LR": "1e-5",
    "WANDB_MODE": "disabled",
}
LAYOUTS: tuple[dict[str, str], ...] = (
    {"MPSIZE": "1"},
    {"MPSIZE": "1", "ZERO_STAGE": "1"},
    {"MPSIZE": "1", "ZERO_STAGE": "3"},
    {"SP_TYPE": "megatron"},
    {"SP_TYPE": "ds"},
    {"SP_TYPE": "ring", "ZERO_STAGE": "2"},
)
DISK = "96m"
EARLY, LATE = 30.0, 3.0  # seconds after its start, or after its first iteration
LEFT_ALONE = 2
SOON = 30.0  # seconds; a job that has not ended by then, as one that began anew, has no rest
GONE = 90.0  # seconds after a job's end, on a busy machine, in which all of it must be gone
PATIENCE = 900.0
TOLERANCE = 1e-6
LONGEST = 107  # characters of a socket's name, of which a step of a job has such a one:
SOCKET = "/hosts/slurm/spool.{host}/{host}_999.4294967291"


def losses(run: Path) -> dict[int, tuple[float, int]]:
    """Loss and consumed tokens by iteration, of the lines that were written whole."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    assert len({r["iteration"] for r in records}) == len(records), f"{path}: one stands twice"
    return {r["iteration"]: (r["lm_loss"], r["consumed_tokens"]) for r in records}


def last_line(path: Path) -> str:
    return (path.read_text().splitlines() or [""])[-1] if path.exists() else ""


@dataclass
class Chain:
    """The jobs, where they leave their things, and what was done to them."""

    slurm: Slurm
    disk: Path
    folder: Path
    chance: random.Random

    @property
    def mark(self) -> str:
        return f"LONGSEQ_JOB={self.folder}"

    def runs(self) -> list[Path]:
        return runs_of(self.folder) if (self.folder / "runs.txt").exists() else []

    def state(self, number: str) -> tuple[str, str]:
        """A job's state and the reason for it; empty where it has ended."""
        for line in self.slurm.ask("squeue", "-h", "-o", "%i %T %r").splitlines():
            job, state, why = line.split(maxsplit=2)
            if job == number:
                return state, why
        return "", ""

    def exchange_hosts(self) -> list[str]:
        """One or two of the hosts are there for the next job."""
        up = self.chance.sample(HOSTS, self.chance.choice((1, 2, 2)))
        for host in HOSTS:
            ask = ["scontrol", "update", f"nodename={host}"]
            self.slurm.ask(*ask, "state=resume")
            if host not in up:
                self.slurm.ask(*ask, "state=drain", "reason=exchanged")
        return sorted(up)

    def until(self, test: Callable[[], object], number: str, seconds: float = PATIENCE) -> bool:
        """Wait for something, or the job's end; whether it came. Slurm's own holds are lifted."""
        end = time.monotonic() + seconds
        while not test():
            state, why = self.state(number)
            if not state:
                return bool(test())
            if state == "PENDING" and why == "BeginTime":
                self.slurm.ask("scontrol", "update", f"jobid={number}", "starttime=now")
            elif state == "PENDING" and "eld" in why:
                self.slurm.ask("scontrol", "release", number)
            elif state == "PENDING" and "down" in why.lower():
                self.exchange_hosts()
            if time.monotonic() > end:
                sys.exit(f"job {number}: {seconds:.0f} s, and it is {state} ({why})")
            time.sleep(0.2)
        return True

    def runs_again(self, number: str) -> bool:
        """Wait until it runs; whether it does, and has something to do."""
        self.until(lambda: self.state(number)[0] == "RUNNING", number)
        return bool(self.state(number)[0]) and not (self.folder / "stopped.txt").exists()

    def wait(self, number: str, seconds: float) -> None:
        """For so long, or until it has ended."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, number, seconds + PATIENCE)

    def disturb(self, number: str, before: int) -> str:
        """Something happens to a job, sooner or later; what."""
        chance, place = self.chance, last_line(self.folder / "failed-at.txt")
        known = place.split()[0] if place else ""
        early = chance.random() < 1 / 3 and not known
        if early:
            when = chance.uniform(0, EARLY)
            end = time.monotonic() + when
            moment = f"{when:.1f} s after its start"
            self.until(lambda: time.monotonic() > end, number)
        else:
            least = int(known) if known.isdecimal() else 0  # twice at one place ends a chain

            def trained() -> bool:
                new = self.runs()[before:]
                return bool(new) and max(losses(new[-1]), default=0) > least

            self.until(trained, number)
            when = chance.uniform(0, LATE)
            moment = f"{when:.1f} s after its first iteration"
            time.sleep(when)
        event = chance.choice(EVENTS)

        def act() -> str:
            return event(self, self.mark, chance, number)

        full = chance.random() < 1 / 3
        if full:
            both = chance.random() < 0.5
            what = full_for(self.disk, chance, act if both else lambda: "")
            what += "" if both else f"; then {act()}"
        else:
            what = act()
        return f"{moment}: {what}"

    def nothing_left(self) -> None:
        end = time.monotonic() + GONE
        while left := processes(self.mark):
            if time.monotonic() > end:
                tree = ["ps", "-o", "pid,ppid,stat,etimes,args", "-p", ",".join(map(str, left))]
                said = subprocess.run(tree, capture_output=True, text=True, check=False).stdout
                lines = [line[:150] for line in said.splitlines()]
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                sys.exit("\n".join(["still there:", *lines, *self.said()[-20:]]))
            time.sleep(0.2)

    def job(self, index: int, number: str, disturbed: bool) -> None:
        """Let a job go, disturb it, wait for its end."""
        before, said = len(self.runs()), self.said()
        up = self.exchange_hosts()
        others = fill(self.disk) if disturbed and self.chance.random() < 1 / 8 else None
        self.slurm.ask("scontrol", "release", number)
        print(f"job {index} on {' '.join(up)}:", flush=True)
        if others:
            self.wait(number, SOON)
            others.unlink()
            print("  the disk was full", flush=True)  # after a minute the job looks again
        while self.runs_again(number) and disturbed:
            print(f"  {self.disturb(number, before)}", flush=True)
            self.wait(number, SOON)
        self.wait(number, PATIENCE)
        self.nothing_left()
        codes = [line.split()[-1] for line in self.said()[len(said) :] if "job ends with" in line]
        done = [losses(run) for run in self.runs()[before:]]
        parts = [f"{min(one)} to {max(one)}" for one in done if one]
        code, iterations = " ".join(codes) or "none", ", ".join(parts) or "none"
        print(f"  exit code {code}, iterations {iterations}", flush=True)

    def said(self) -> list[str]:
        path = self.folder / "output.txt"
        return path.read_text(errors="replace").splitlines() if path.exists() else []


def submit(tree: Tree, slurm: Slurm, jobs: int, iterations: int, **env: str) -> Path:
    """The job's folder; all jobs are held."""
    _, full = tree.command(**env)
    asked = ["-n", "2", "-t", "25m", "--chain", str(jobs)]
    words = [str(tree.root / "ALCF/submit.sh"), *asked, "--", *NETWORK]
    more = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "NGPU_PER_HOST": "1"}
    more |= {"SUBMIT_ARGS": "--nodes=1-2 --hold", "TRAIN_ITERS": str(iterations)}
    done = subprocess.run(
        [*slurm.cluster.enter(HOSTS[0]), *words],
        env=full | slurm.env | more,
        cwd=tree.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return Path(done.stdout.splitlines()[-1].split(": ")[1])


def uninterrupted(tree: Tree, folder: Path, iterations: int) -> dict[int, tuple[float, int]]:
    """One rank on this host that nobody touches."""
    env = {
        "MACHINE": "workstation",
        "NGPUS": "1",
        "OUTPUT_DIR": str(folder),
        "SAVE_INTERVAL": "1000",
    }
    env |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TRAIN_ITERS": str(iterations)}
    command, full = tree.command("--", *NETWORK, **SETTINGS, **env)
    command = ["setpriv", "--pdeathsig", "TERM", *command]
    done = subprocess.run(command, env=full, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    (run,) = (path.parent for path in folder.glob("*/metrics.jsonl"))
    return losses(run)


def judge(chain: Chain, whole: dict[int, tuple[float, int]], jobs: int) -> list[str]:
    """What is wrong, a line each."""
    wrong = []
    found: dict[int, tuple[float, int]] = {}
    worst, again = 0.0, 0
    for run in chain.runs():
        one = losses(run)
        if one and min(one) > max(found, default=0) + 1:
            wrong.append(f"{run.name} went on at {min(one)} after {max(found, default=0)}")
        for iteration, (loss, tokens) in one.items():
            expected, consumed = whole[iteration]
            worst = max(worst, abs(loss - expected))
            again += iteration in found
            if tokens != consumed:
                wrong.append(f"{run.name}: iteration {iteration}: {tokens} tokens, not {consumed}")
        found |= one
    print(f"{len(found)} iterations, {again} of them twice: losses differ by at most {worst:.2g}")
    if worst > TOLERANCE:
        wrong.append("these are other losses")
    if set(found) != set(whole):
        wrong.append(f"missing: {sorted(set(whole) - set(found))}")
    steps = [abs(whole[i + 1][0] - whole[i][0]) for i in range(1, len(whole))]
    if min(steps) < 10 * TOLERANCE:
        print(f"note: two batches differ by {min(steps):.1g} only")
    stopped = (chain.folder / "stopped.txt").read_text().splitlines()
    if stopped != ["training is done"]:
        wrong.append(f"stopped.txt: {stopped}")
    left = [path for run in chain.runs()[-1:] for path in run.glob("checkpoints/*.tmp")]
    wrong += [f"left: {path}" for path in left]
    return wrong


def place(folder: Path) -> Path:
    """FOLDER, whole; refused where it leaves no room for the names of Slurm's sockets."""
    folder, longest = folder.resolve(), LONGEST - len(SOCKET.format(host=HOSTS[0]))
    if len(str(folder)) > longest:
        sys.exit(
            f"kill_chain: {folder} has {len(str(folder))} characters: give a FOLDER of {longest}"
            " at most"
        )
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--each", type=int, default=40, help="iterations of a job, shared out")
    options = parser.parse_args()
    if reason := why_not("setpriv", *PROGRAMS):
        sys.exit(f"kill_chain: {reason}")
    end_on_signals()
    folder = place(options.folder)
    disk, home = folder / "disk", folder / "home"
    for path in (disk, home):
        path.mkdir(parents=True)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    chance = random.Random(seed)
    layout, interval = chance.choice(LAYOUTS), chance.choice(("1", "1", "3"))
    iterations = options.each * options.jobs
    print(f"seed {seed}: {layout}, SAVE_INTERVAL={interval}, {iterations} iterations", flush=True)
    tree = Tree(folder / "tree", home)
    for machine in ("workstation", "slurm"):
        tree.environment(machine)
    whole = uninterrupted(tree, folder / "whole", iterations)
    with ExitStack() as stack:
        stack.enter_context(small_disk(disk, DISK))
        slurm = stack.enter_context(Slurm(stack.enter_context(Cluster(folder / "hosts", HOSTS))))
        env = {**SETTINGS, **layout, "SAVE_INTERVAL": interval, "OUTPUT_DIR": str(disk)}
        job = submit(tree, slurm, options.jobs, iterations, **env)
        chain = Chain(slurm, disk, job, chance)
        numbers = (job / "jobs.txt").read_text().split()
        for index, number in enumerate(numbers, 1):
            chain.job(index, number, disturbed=index <= len(numbers) - LEFT_ALONE)
        wrong = judge(chain, whole, options.jobs)
        if wrong:
            subprocess.run(["cp", "-a", str(disk), str(folder / "disk-kept")], check=False)
    print("\n".join(wrong) or "the chain survived all of it", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
