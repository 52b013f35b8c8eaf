"""A real training on two ranks that is killed, fails or is told to stop at any moment."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.parallel.ranks import (
    MPIEXEC,
    ROOT,
    left_in_shared_memory,
    rank_environ,
    shared_files,
)

RANK_SH = str(ROOT / "ALCF" / "rank.sh")
SOON = 15  # seconds in which everything must have ended, on a busy machine

NETWORK = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 128 --eval-iters 0"
    " --use-rotary-position-embeddings --tensor-model-parallel-size 2 --sequence-parallel"
    " --use-flash-attn-sdpa --lr 1e-3 --hidden-dropout 0.1"
).split()

# A rank that fails on demand: SIGUSR2 raises in the middle of whatever it does.
FAIL_ON_USR2 = """
import signal
def fail(*_):
    raise RuntimeError("injected failure")
signal.signal(signal.SIGUSR2, fail)
"""


class Training:
    """One mpiexec of two ranks in a folder of its own; whatever is left of it can be found."""

    def __init__(self, folder: Path, *options: str, iterations: int, **environ: str) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        arguments = [
            *NETWORK,
            *("--train-iters", str(iterations)),
            *("--data-path", str(ROOT / "data" / "NC_001416.1.fa")),
            *("--run-dir", str(folder), "--save", str(folder / "checkpoints"), *options),
        ]
        site = folder.with_name(folder.name + "-site")
        site.mkdir()
        (site / "sitecustomize.py").write_text(FAIL_ON_USR2)
        mine = {"LONGSEQ_TEST": self.mark, "LONGSEQ_CACHE": str(folder.with_name("cache"))}
        self.environ = rank_environ(**mine, **environ)
        self.environ["PYTHONPATH"] = f"{site}{os.pathsep}{self.environ['PYTHONPATH']}"
        self._prepare(arguments)
        self.shared = shared_files()
        self.output = (folder / "output.txt").open("w+")
        self.process = subprocess.Popen(
            [MPIEXEC, "-n", "2", *self.rank_command(arguments)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def rank_command(self, arguments: list[str]) -> list[str]:
        return ["/bin/sh", RANK_SH, sys.executable, str(ROOT / "pretrain_gpt.py"), *arguments]

    def _prepare(self, arguments: list[str]) -> None:
        check = [sys.executable, "-m", "longseq", "check", "--world-size", "2", *arguments]
        subprocess.run(check, env=self.environ, cwd=ROOT, check=True, timeout=60)

    def text(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    def losses(self) -> dict[int, float]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line) for line in lines]
        assert [r["iteration"] for r in records] == sorted({r["iteration"] for r in records})
        return {r["iteration"]: r["lm_loss"] for r in records}

    def until_iteration(self, number: int) -> None:
        """Wait until it has done that many iterations."""
        for _ in range(1200):
            if f"\niteration {number}/" in self.text():
                return
            assert self.process.poll() is None, self.text()
            time.sleep(0.05)
        pytest.fail(f"no iteration {number}:\n{self.text()}")

    def processes(self) -> dict[int, dict[str, str]]:
        """The living processes of this run, with their environments."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                text = path.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if self.mark in text:
                pairs = (entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
                found[int(path.parent.name)] = dict(pairs)
        return found

    def ranks(self) -> dict[int, int]:
        """The process of each rank."""
        return {int(e["RANK"]): pid for pid, e in self.processes().items() if "RANK" in e}

    def rank(self, number: int) -> int:
        """The process of one rank."""
        return self.ranks()[number]

    def exit_code(self, seconds: float = SOON) -> int:
        """The launcher's exit code, and nothing left behind: no process, no shared memory."""
        code = self.process.wait(seconds)
        for _ in range(100):
            if not self.processes():
                break
            time.sleep(0.1)
        assert self.processes() == {}
        assert left_in_shared_memory(self.shared, "deepspeed") == set()
        return code

    def kill(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


Start = Callable[..., Training]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[Training] = []

    def begin(name: str, *options: str, iterations: int = 4000, **environ: str) -> Training:
        runs.append(Training(tmp_path / name, *options, iterations=iterations, **environ))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()
        run.output.close()


def test_killed_rank_ends_all(start: Start) -> None:
    wandb = {"WANDB_MODE": "offline", "WANDB_API_KEY": "0123456789" * 4}
    run = start("run", "--save-interval", "5", "--wandb-project", "p", **wandb)
    run.until_iteration(7)
    end = time.monotonic() + 60
    while not list((run.folder / "wandb").glob("offline-run-*")):  # made beside the training
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(run.rank(1), signal.SIGKILL)
    assert run.exit_code() not in (0, 2, 75)
    assert len(run.losses()) >= 7
    assert '"slowest_rank"' in (run.folder / "metrics.jsonl").read_text().splitlines()[1]
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if wandb["WANDB_API_KEY"].encode() in path.read_bytes()]
    done = max(run.losses())
    again = start("again", "--load", str(run.folder / "checkpoints"))
    again.until_iteration(done + 2)
    first = min(again.losses())
    assert first % 5 == 1  # it went on after a checkpoint,
    assert done - 5 <= first - 1 <= done  # and after the last one


def test_failing_rank_ends_all_and_is_named(start: Start) -> None:
    run = start("run")
    run.until_iteration(3)
    os.kill(run.rank(1), signal.SIGUSR2)
    assert run.exit_code() == 1
    assert "RuntimeError: injected failure" in run.text()
    log = (run.folder / "log" / "rank1.log").read_text()
    assert "RuntimeError: injected failure" in log
    assert f"failed on {socket.gethostname()}" in log


def test_signal_to_one_rank_in_a_save_and_it_resumes_exactly(start: Start) -> None:
    """SIGTERM to rank 1 alone: both stop at one iteration; going on equals never stopping."""
    schedule = ("--lr-decay-iters", "40")
    run = start("run", "--save-interval", "1", *schedule)
    run.until_iteration(3)
    while not list(run.folder.glob("checkpoints/step-*.tmp")):
        assert run.process.poll() is None, run.text()
        time.sleep(0.001)  # the ranks share the cores with this
    os.kill(run.rank(1), signal.SIGTERM)
    assert run.exit_code(120) == 75
    assert "SIGTERM" in run.text()
    last = max(run.losses())
    record = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["most_memory_gib"] >= record["peak_memory_gib"]  # rank 0 is one of them
    assert (run.folder / "checkpoints" / "latest").read_text() == f"step-{last}\n"
    assert not list(run.folder.glob("checkpoints/*.tmp"))
    total = last + 3
    load = ("--load", str(run.folder / "checkpoints"))
    rest = start("rest", *load, *schedule, iterations=total)
    whole = start("whole", *schedule, iterations=total)
    assert (rest.exit_code(120), whole.exit_code(120)) == (0, 0)
    assert sorted(rest.losses()) == list(range(last + 1, total + 1))
    assert run.losses() | rest.losses() == whole.losses()


def test_weights_that_are_no_numbers_are_not_saved(start: Start) -> None:
    """The loss is finite when the update that destroys the weights is made."""
    poison = ("--lr", "1e38", "--weight-decay", "0", "--lr-decay-style", "constant")
    run = start("run", *poison, "--save-interval", "1", iterations=12)
    assert run.exit_code(60) == 1
    assert "the weights after iteration 1 are not finite numbers, so they were not" in run.text()
    assert "there is no checkpoint: a smaller --lr" in run.text()
    assert "Traceback" not in run.text()
    assert list(run.folder.glob("checkpoints/step-*")) == []


def test_one_rank_alone_waits_for_no_port(tmp_path: Path) -> None:
    """Without a launcher, which gives ranks a port, as two of them on one host."""
    words = [*NETWORK[:10], "--device", "cpu", "--train-iters", "1", "--run-dir", str(tmp_path)]
    words += ["--data-path", str(ROOT / "data" / "NC_001416.1.fa")]
    env = {k: v for k, v in os.environ.items() if k not in ("MASTER_PORT", "WORLD_SIZE")}
    with socket.socket() as taken:
        with suppress(OSError):  # somebody else's, then
            taken.bind(("127.0.0.1", 29500))
            taken.listen()
        subprocess.run([sys.executable, str(ROOT / "pretrain_gpt.py"), *words], env=env, check=True)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_wall_time_stops_in_time(start: Start) -> None:
    run = start("run", WALLTIME="14s")
    assert run.exit_code(60) == 75
    assert "the wall time is nearly over" in run.text()
    assert (run.folder / "checkpoints" / "latest").exists()
    assert (run.folder / "report.html").exists()


def test_ctrl_c_saves(start: Start) -> None:
    """Other ways to ask for it: tests/unit/run/safety."""
    run = start("run")
    run.until_iteration(3)
    run.process.send_signal(signal.SIGINT)
    assert run.exit_code(120) == 75
    assert ": Ctrl-C" in run.text()
    assert (run.folder / "checkpoints" / "latest").exists()


def test_a_rank_that_stops_is_named_and_ends_all(start: Start) -> None:
    run = start("run", "--hang-timeout", "4")
    run.until_iteration(3)
    beat = run.folder / "log" / "beat-1.json"
    while '"step": 0' in beat.read_text():  # its last one may be from before the first iteration
        time.sleep(0.05)
    os.kill(run.rank(1), signal.SIGSTOP)
    assert run.exit_code() == 69
    host = socket.gethostname()
    assert re.search(
        rf"^rank 1 \(process \d+\) on {host} has stopped: no sign of", run.text(), re.M
    )
    assert re.search(r"^it misses \S+ of iteration \d+, where 1 other rank", run.text(), re.M)
    assert re.search(r"^  longseq/training/loop.py:\d+ in run$", run.text(), re.M)


def test_told_before_its_first_iteration_it_ends_at_once(start: Start) -> None:
    """While it imports, or waits for a rank that has not come."""
    run = start("run")
    beats = [run.folder / "log" / f"beat-{rank}.json" for rank in (0, 1)]
    for _ in range(1200):
        if all(beat.exists() for beat in beats):  # both listen from here on
            break
        time.sleep(0.05)
    run.process.send_signal(signal.SIGTERM)
    assert run.exit_code() == 75
    assert "stopped before the first iteration by SIGTERM" in run.text()


WAITS = """
import os, signal, sys, torch.distributed as dist
from pathlib import Path
from longseq.run.safety import watch as module
from longseq.run.safety.stopping import Stopper
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
module.PATIENCE = 1.0
watch = module.Watch(Stopper())
watch.start()
watch.listen(folder, rank, 2, 600)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
watch.at(1, "step")
print("here", flush=True)
if rank == 1:
    signal.pause()
dist.barrier()
"""


@pytest.mark.parametrize(
    ("stopped", "signals", "code"),
    [(False, [signal.SIGINT, signal.SIGINT], 130), (True, [signal.SIGTERM], 69)],
    ids=["second Ctrl-C", "SIGTERM while a rank is stopped"],
)
def test_a_signal_ends_a_rank_that_waits_in_cpp(
    tmp_path: Path, stopped: bool, signals: list[signal.Signals], code: int
) -> None:
    """gloo's wait returns to Python at its timeout only, so no Python handler runs before that."""
    command = [sys.executable, "-c", WAITS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            assert rank.stdout
            assert rank.stdout.readline()
        if stopped:
            ranks[1].send_signal(signal.SIGSTOP)
        for number in signals:
            time.sleep(0.5)
            ranks[0].send_signal(number)
        assert ranks[0].wait(SOON) == code
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def test_mistake_on_one_rank_ends_all_before_they_meet(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 alone does not accept its arguments; rank 0 waits for it at the rendezvous."""
    script = 'if [ "$PMI_RANK" = 1 ]; then exec "$@" --no-such-flag; else exec "$@"; fi'
    usual = Training.rank_command
    monkeypatch.setattr(
        Training,
        "rank_command",
        lambda self, arguments: ["/bin/sh", "-c", script, "sh", *usual(self, arguments)],
    )
    run = start("run")
    assert run.exit_code() == 2
    assert "longseq: unknown argument '--no-such-flag'" in run.text()
