"""The thread beside the training: what a file system that stumbles leaves of it."""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longseq.parallel.agreement import Ranks
from longseq.run.safety.heartbeat import Heart, read_beat
from longseq.run.safety.starters import starters
from longseq.run.safety.stopping import GO_ON, HUP, ORPHAN, STOP_FILE, TERM, Stopper
from longseq.run.safety.watch import SIGNALS, Watch
from tests.launch.shell import ROOT


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """In a step, and looking a hundred times a second."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # this test may run under nohup
    watch = Watch(Stopper(), {})
    watch._every = 0.01
    watch.start()
    watch.listen(tmp_path, 0, 1, 0.2)
    watch.at(3, "step")
    yield watch
    watch.end()
    for number, handler in before.items():
        signal.signal(number, handler)


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()


def stale(real: Any, times: int, met: list[int]) -> Any:
    """`real`, which fails for the first `times` in threads."""

    def call(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and len(met) < times:
            met.append(1)
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*args, **more)

    return call


@pytest.mark.parametrize("broken", ["the look for STOP", "a beat"])
def test_signals_are_heard_after_the_file_system_has_failed(
    watch: Watch,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    met: list[int] = []
    for owner, name in [(Path, "stat")] if broken[0] == "t" else [(os, "pwrite"), (os, "utime")]:
        monkeypatch.setattr(owner, name, stale(getattr(owner, name), 4, met))
    assert soon(lambda: len(met) == 4)
    os.kill(os.getpid(), signal.SIGTERM)
    assert soon(lambda: watch.stopper.requested == TERM)
    said = capsys.readouterr().err.splitlines()
    assert said == ["longseq: warning: the watch goes on after: Stale file handle"]


def test_a_part_that_fails_for_good_leaves_the_others(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "stat", stale(os.stat, 10**9, []))
    monkeypatch.setattr(watch, "_parent", -1)  # as if whoever started it were gone
    assert soon(lambda: watch.stopper.requested == ORPHAN)


def test_a_rank_hears_what_its_launcher_cannot(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longseq.run.safety.watch.told", lambda _: signal.SIGTERM)
    assert soon(lambda: watch.stopper.requested == TERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_a_stop(watch: Watch, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert soon(lambda: watch.stopper.requested == SIGNALS[number])


def test_a_file_in_the_runs_folder_asks_for_a_stop(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "STOP").touch()
    assert soon(lambda: watch.stopper.requested == STOP_FILE)


def test_whoever_started_it_is_gone(watch: Watch) -> None:
    """The script: it is not the ranks' parent."""
    with subprocess.Popen(["sleep", "60"]) as script:
        watch._starters = starters({"LONGSEQ_SCRIPT": f"{socket.gethostname()}:{script.pid}"})
        time.sleep(0.05)
        assert watch.stopper.requested == GO_ON
        script.kill()
    assert soon(lambda: watch.stopper.requested == ORPHAN)


def test_a_terminal_that_is_closed_stops_a_run_with_a_checkpoint(watch: Watch) -> None:
    assert signal.getsignal(signal.SIGHUP) == watch._on_signal
    os.kill(os.getpid(), signal.SIGHUP)
    assert soon(lambda: watch.stopper.requested == HUP)


def test_under_nohup_it_does_not() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    watch = Watch(Stopper(), {})
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        watch.start()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        watch.end()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("sent", "came", "reason"),
    [
        ("TERM", signal.SIGUSR1, "SIGTERM"),  # Open MPI's launcher would kill the ranks for it
        ("INT", signal.SIGUSR1, "Ctrl-C (again: stop at once, without a checkpoint)"),
        ("HUP", signal.SIGTERM, "SIGHUP"),
        ("", signal.SIGUSR1, "SIGUSR1"),  # the script was sent just that
        ("QUIT", signal.SIGTERM, "SIGTERM"),
    ],
)
def test_the_reason_is_what_the_script_was_sent(
    tmp_path: Path, sent: str, came: signal.Signals, reason: str
) -> None:
    if sent:
        (tmp_path / "signal.txt").write_text(sent + "\n")
    watch = Watch(Stopper(), {"LONGSEQ_LOG": str(tmp_path)})
    watch.at(1, "step")
    watch._signalled(came)
    assert watch.stopper.should_stop(Ranks()) == reason


# A rank that makes its folder again and again, as DeepSpeed does beside a launch
BUSY = """
import os, shutil, signal, sys
from pathlib import Path
from longseq.run.safety.starters import starters
from longseq.run.safety.watch import Watch
from longseq.parallel.agreement import Ranks
from longseq.run.safety.stopping import Stopper
folder = Path(sys.argv[1])
signal.signal(signal.SIGHUP, signal.SIG_DFL)
watch = Watch(Stopper())
watch.puts_away(lambda: shutil.rmtree(folder))
watch.start()
folder.mkdir()
print("here", flush=True)
while True:
    (folder / "rank0").mkdir(parents=True, exist_ok=True)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_rank_has_is_removed_before_it_is_ended(tmp_path: Path, sent: int) -> None:
    """Before its first iteration, and its main thread does not bring it back."""
    folder = tmp_path / "offload"
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    ) as rank:
        assert rank.stdout
        rank.stdout.readline()
        rank.send_signal(sent)
        assert rank.wait(20) == 75
    assert not folder.exists()


def test_a_stale_file_of_a_heart_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = Heart(tmp_path, 0)
    heart.beat(1, "step")
    with monkeypatch.context() as patch:
        for name in ("pwrite", "utime"):
            patch.setattr(os, name, lambda *_: (_ for _ in ()).throw(OSError(errno.ESTALE, "x")))
        heart.beat(2, "step")
        assert isinstance(heart.error, OSError)
    (tmp_path / "beat-0.json").unlink()  # the old handle writes where nobody reads
    heart.beat(3, "step")
    found = read_beat(tmp_path, 0)
    assert heart.error is None
    assert found
    assert found[0].step == 3


# A rank whose page never ends, beside one that has been silent since the last save
CLOSES = """
import os, sys, time
from pathlib import Path
from longseq.run.safety import watch as module
from longseq.run.safety.heartbeat import Heart
from longseq.parallel.agreement import Ranks
from longseq.run.safety.stopping import TERM, Stopper
run, module.AFTERWARDS, module.PATIENCE = Path(sys.argv[1]), 1.5, 0.3
watch = module.Watch(Stopper())
watch.start()
watch.listen(run, 0, 2, 0.3)
Heart(run / "log", 1).beat(9, "save")
watch.at(9, "save")
watch.closing(int(sys.argv[2]))
watch.stopper.ask(TERM)
time.sleep(60)
"""


@pytest.mark.parametrize("code", [0, 75, 73])
def test_what_comes_after_the_training_blames_nobody_and_ends(tmp_path: Path, code: int) -> None:
    """With the code that the training has, whoever is silent meanwhile."""
    log = tmp_path / "log"
    log.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CLOSES, str(tmp_path), str(code)],
        cwd=ROOT,
        env=os.environ | {"LONGSEQ_LOG": str(log), "RANK": "0"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code
    said = "after the training its page, its trackers or a rank do not end"
    notes = sorted(path.name for path in log.glob("[efs]*"))
    if code == 73:
        assert notes == ["failed-0.txt"]
        assert said in (log / "failed-0.txt").read_text()
    else:
        assert notes == ["exit-code"]
        assert (log / "exit-code").read_text() == f"{code}\n"
        assert said in done.stderr


def test_a_launcher_that_dies_late_leaves_as_long_as_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an earlier signal, in a long save."""
    watch, clock = Watch(Stopper(), {}), [0.0]
    left: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch, "_leave", lambda *_: left.append(clock[0]))
    watch.at(5, "save")
    watch.stopper.ask(TERM)
    watch._asked_at, watch._parent = 1.0, -1
    for seconds in (100.0, 124.0, 126.0):
        clock[0] = seconds
        watch._look_for_starters()
    assert left == [126.0]


@pytest.mark.parametrize(
    ("asked", "step", "more", "patience"),
    [
        (0.0, 0.0, {}, (600.0, 600.0)),
        (0.0, 900.0, {}, (600.0, 900.0)),  # a GPU may be at work on a whole step
        (700.0, 0.0, {}, (10.0, 600.0)),  # in the first step, of which nobody knows how long it is
        (700.0, 30.0, {}, (60.0, 60.0)),
        (700.0, 900.0, {}, (600.0, 900.0)),
        (50.0, 30.0, {}, (600.0, 600.0)),  # not yet so long since they were told
        (700.0, 3.0, {"_every": 20.0}, (60.0, 60.0)),  # of 10,000 ranks, which beat so seldom
        (700.0, 3.0, {"_phase": "save"}, (600.0, 600.0)),
        (700.0, 3.0, {"_phase": "load"}, (600.0, 600.0)),
    ],
)
def test_how_long_ranks_may_wait(
    monkeypatch: pytest.MonkeyPatch,
    asked: float,
    step: float,
    more: dict[str, Any],
    patience: tuple[float, float],
) -> None:
    watch = Watch(Stopper(), {})
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    watch._timeout, watch.stopper.longest_step = 600.0, step
    watch._asked_at = 1000.0 - asked if asked else 0.0
    vars(watch).update(more)
    assert watch._patience() == patience


# The save of a run that was told to stop: rank 1 writes into a pipe, rank 0 waits for it
SAVES = """
import sys, threading, time
from pathlib import Path
from longseq.checkpoint.format.tensor_files import write
from longseq.parallel.agreement import Ranks
from longseq.run.safety import watch as module
from longseq.run.safety.stopping import TERM, Stopper
rank, run, module.PATIENCE = int(sys.argv[1]), Path(sys.argv[2]), 0.3
watch = module.Watch(Stopper())
watch.start()
watch.listen(run, rank, 2, 600 if rank else 1.5)
watch._every = 0.05
watch.at(9, "save")
watch.stopper.ask(TERM)
if rank == 0:
    Ranks(0, 2, lambda _: time.sleep(60)).wait()
chunks = (bytes(1 << 16) for _ in range(10000))
writer = threading.Thread(target=lambda: write(run / "pipe", chunks), daemon=True)
writer.start()
writer.join()
"""


@pytest.mark.parametrize("fault", ["a write never returns", "a rank is stopped"])
def test_a_save_may_be_slow_but_not_stand(tmp_path: Path, fault: str) -> None:
    """Slow for many times PATIENCE, and twice as long as --hang-timeout."""
    (tmp_path / "log").mkdir()
    os.mkfifo(tmp_path / "pipe")
    disk = os.open(tmp_path / "pipe", os.O_RDWR)

    def takes_more() -> bool:
        return bool(select.select([disk], [], [], 10)[0] and os.read(disk, 1 << 16))

    ranks = []
    try:
        for number in (1, 0):
            command = [sys.executable, "-c", SAVES, str(number), str(tmp_path)]
            env = os.environ | {"LONGSEQ_LOG": str(tmp_path / "log"), "RANK": str(number)}
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=env))
            assert takes_more()  # rank 1 is in the middle of its save
        assert soon(lambda: '"phase": "save"' in (tmp_path / "log" / "beat-1.json").read_text())
        if fault == "a rank is stopped":
            ranks[0].send_signal(signal.SIGSTOP)
        else:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert takes_more()
                time.sleep(0.05)
            assert [rank.poll() for rank in ranks] == [None, None]
        assert ranks[1].wait(20) == 69
        said = (tmp_path / "log" / "failed-1.txt").read_text().splitlines()
        what = "no sign of life for" if fault[2] == "r" else "others have waited for it for"
        assert f"has stopped: {what} " in said[4]
        assert said[4].endswith("the last in iteration 9 (save)")
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
        os.close(disk)
