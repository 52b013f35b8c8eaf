"""Weights & Biases: which mode, what its server gets, no key in any file, no process left."""

import base64
import contextlib
import io
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from longseq.__main__ import main
from longseq.errors import UserError
from longseq.reports.runs import read_metrics
from longseq.run import sync
from longseq.run.wandb_sink import chain_id, wandb_mode
from tests.launch.cluster import small_disk, why_not
from tests.launch.shell import ROOT
from tests.unit.run.wandb_server import Server

NOWHERE = "http://127.0.0.1:9"  # where nothing listens
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": ""}, "offline"),
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_API_KEY": KEY, "WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_MODE": " Online "}, "online"),
    ],
)
def test_mode(environ: dict[str, str], mode: str, tmp_path: Path) -> None:
    assert wandb_mode({"HOME": str(tmp_path), **environ}) == mode


def test_unknown_mode_names_the_choices() -> None:
    with pytest.raises(UserError, match="WANDB_MODE='of' is not one of online, offline"):
        wandb_mode({"WANDB_MODE": "of"})


def test_netrc_counts_as_set_up(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    home = {"HOME": str(tmp_path)}
    assert wandb_mode(home) == "online"
    assert wandb_mode({**home, "WANDB_BASE_URL": "https://other.org"}) == "offline"
    (tmp_path / ".netrc").write_text("machine\n")
    assert wandb_mode(home) == "offline"


RUN = """
import os, sys, time
from pathlib import Path
from longseq.run.tracking import open_tracker
folder = Path(sys.argv[1])
def children():
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        found += [name] if rest.split()[1] == str(os.getpid()) else []
    return found
sys.excepthook = lambda *_: print("our hook", file=sys.stderr)
tracker = open_tracker(folder, print, wandb_project="p", settings={"hidden": 256})
for i in range(1, 4):
    tracker.log({"iteration": i, "lm_loss": 1 / i})
if sys.argv[2] == "close":
    tracker.close()
    print("children", len(children()))
elif sys.argv[2] in ("fails", "fails without its service"):
    while not list(folder.glob("wandb/offline-run-*/*.wandb")):
        time.sleep(0.05)
    for pid in [c.split()[0] for c in children() if "wandb-core" in c] * ("its" in sys.argv[2]):
        os.kill(int(pid), 9)
    try:
        raise ValueError("boom")
    finally:
        tracker.close(1)
else:
    while not any("wandb-core" in name for name in children()):
        time.sleep(0.05)
    os._exit(3)
"""


def run(folder: Path, how: str, **more: str) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"HOME": str(home), "WANDB_MODE": "offline", **more}
    run_folder = folder / "run"
    (run_folder / "wandb").mkdir(parents=True)
    (run_folder / "report.html").write_text("the page")
    (folder / "tmp").mkdir()
    env |= {"TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-c", RUN, str(run_folder), how]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_offline_run_keeps_everything_but_the_key_and_is_sent_later(tmp_path: Path) -> None:
    done = run(tmp_path, "close", WANDB_API_KEY=KEY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "children 0\n", "")
    stored = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(stored) == 1
    # What is to be sent lies with the run, not at home
    assert list((tmp_path / "tmp").iterdir()) == []
    kept = (tmp_path / "run" / "wandb" / "data").rglob("*")
    assert [path.read_text() for path in kept if path.is_file()] == ["the page"]
    assert not list((tmp_path / "run" / "wandb").glob("tmp*"))
    keyless(tmp_path)
    with Server() as server:
        env = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY, "WANDB_MODE": ""}
        words = [sys.executable, "-m", "longseq", "sync", str(tmp_path / "run")]
        done = subprocess.run(
            words,
            env=os.environ | env,
            cwd=tmp_path / "tmp",
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "tmp").iterdir()) == []
        (name,) = server.runs
        logged = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
        assert by_iteration(server.history(name)) == by_iteration(logged)
        assert server.config(name)["hidden"] == 256
        assert server.files["artifact/report.html"] == b"the page"
    keyless(tmp_path)


def keyless(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def by_iteration(records: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """What is known of each iteration: W&B gets what became known later as a record of its own."""
    found: dict[int, dict[str, Any]] = {}
    for record in records:
        found.setdefault(record["iteration"], {}).update(record)
    return found


CHAIN = """
import os, sys
from pathlib import Path
from longseq.run.tracking import open_tracker
marks = {"parameters": 7, "commit": "abc", "hosts": ["n1", "n2"], "markov_losses": {"2": 1.5}}
for folder, first in ((Path(sys.argv[1]), 1), (Path(sys.argv[2]), 3)):
    (folder / "checkpoints" / "step-2").mkdir(parents=True)
    (folder / "checkpoints" / "step-2" / "manifest.json").write_text("{}")
    (folder / "report.html").write_text(folder.name)
    tracker = open_tracker(folder, print, resume_after=first - 1, tensorboard=folder / "tb",
                           wandb_project="p", settings=marks)
    for i in (first, first + 1):
        more = {"validation_loss": 1.25, "event": "spike"} if i == 2 else {}
        norm = float("nan") if i == 4 else i / 3
        tracker.log({"iteration": i, "lm_loss": 1 / i, "grad_norm": norm, **more})
    tracker.add_to_last({"checkpoint_seconds": 0.1})
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # while wandb's service is there
        try:
            text = path.read_text()
        except OSError:
            continue
        if os.environ["WANDB_API_KEY"] in text:
            print(text)
    tracker.close(first // 3)
"""


def test_the_server_gets_what_the_files_have(tmp_path: Path) -> None:
    """Two jobs of a chain, online: one run there, equal to metrics.jsonl and to TensorBoard."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"HOME": str(tmp_path), "LONGSEQ_JOB": str(tmp_path), "WANDB_RUN_GROUP": "genes"}
    folders = [tmp_path / "a", tmp_path / "b"]
    with Server() as server:
        env |= {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.address}
        command = [sys.executable, "-c", CHAIN, *map(str, folders)]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=90, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(server.runs) == [chain_id({"LONGSEQ_JOB": str(tmp_path)})]
    (name,) = server.runs
    assert server.keys == {"Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()}
    assert server.runs[name]["groupName"] == "genes"
    assert server.runs[name]["project"] == "p"
    assert server.exit_codes == {name: 1}  # the last one's
    config = server.config(name)
    del config["_wandb"]
    assert config == {
        "parameters": 7, "commit": "abc", "hosts": ["n1", "n2"], "markov_losses": {"2": 1.5},
    }  # fmt: skip

    theirs = by_iteration(server.history(name))
    assert math.isnan(theirs[4].pop("grad_norm"))
    ours = by_iteration(r for f in folders for r in read_metrics(f / "metrics.jsonl")[0])
    assert ours[4].pop("grad_norm") is None
    assert theirs == ours
    assert list(ours) == [1, 2, 3, 4]
    points = dict.fromkeys(ours, 0)
    for folder in folders:
        events = EventAccumulator(str(folder / "tb"))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                points[event.step] += 1
                if (event.step, tag) == (4, "grad_norm"):
                    assert math.isnan(event.value)
                else:
                    assert np.float32(ours[event.step][tag]) == event.value  # which is float32
    assert points == {1: 2, 2: 4, 3: 2, 4: 3}

    assert server.files["artifact/report.html"] == b"b"
    assert server.files["artifact/manifest.json"] == b"{}"
    collections = [asked["input"]["artifactCollectionName"] for asked in
                   server.operations("CreateArtifact")]  # fmt: skip
    assert collections == ["a", "b"]
    keyless(tmp_path)


def test_where_the_server_does_not_answer_it_goes_on_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"WANDB_MODE": "online", "WANDB_BASE_URL": NOWHERE, "WANDB_INIT_TIMEOUT": "1"}
    done = run(tmp_path, "close", WANDB_API_KEY=KEY, **env)
    said, children = done.stdout.splitlines()
    assert said.startswith(f"Weights & Biases at {NOWHERE}: ")
    assert said.endswith(f"recorded offline; ./longseq.sh sync {tmp_path}/run sends it later")
    assert (children, done.stderr) == ("children 0", "")
    (stored,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"lm_loss" in stored.read_bytes()
    for name, value in (env | {"WANDB_API_KEY": KEY}).items():
        monkeypatch.setenv(name, value)
    assert main(["sync", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"longseq: {NOWHERE} cannot be reached from here: ")
    assert error.count("\n") == 1


def test_the_jobs_of_a_chain_are_one_run(tmp_path: Path) -> None:
    job = {"LONGSEQ_JOB": str(tmp_path)}
    first = chain_id(job)
    assert first is not None
    assert len(first) == 8
    assert chain_id(job) == first
    assert chain_id({}) is None


def test_sync_sends_each_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(sync, "reach", lambda _server: None)
    assert main(["sync", str(tmp_path / "a")]) == 2
    assert "no records that wait" in capsys.readouterr().err
    folders = [tmp_path / run / "wandb" / f"offline-run-{run}" for run in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "run-x.wandb").touch()
    (folders[0] / "run-x.wandb.synced").touch()  # as wandb marks what was sent
    sent: list[list[str]] = []

    class Wandb(contextlib.nullcontext[Any]):
        def __init__(self, words: list[str], **_: object) -> None:
            sent.append(words[1:])
            self.stderr, self.returncode = io.StringIO("wandb: Syncing 1 run(s):\n"), 0
            super().__init__(self)

    monkeypatch.setattr(subprocess, "Popen", Wandb)
    assert main(["sync", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert sent == [["-m", "wandb", "sync", "--yes", str(folder)] for folder in folders]
    assert "1 of 2 could not be sent" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["sync", str(tmp_path / "a")]) == 2
    assert "no key" in capsys.readouterr().err


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that recorded offline."""
    folder = tmp_path_factory.mktemp("offline")
    assert run(folder, "close").returncode == 0
    return folder / "run"


@pytest.mark.parametrize("status", [401, 200])
def test_a_key_that_the_server_refuses_fails(
    status: int, offline_run: Path, tmp_path: Path
) -> None:
    """By its status, or in its answer alone; wandb's own exit code is 0."""
    folder = tmp_path / "run"
    shutil.copytree(offline_run, folder, symlinks=True)
    with Server() as server:
        server.status, server.refusal = status, "user is not logged in"
        env = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY, "WANDB_MODE": ""}
        env |= {"HOME": str(tmp_path)}
        words = [sys.executable, "-m", "longseq", "sync", str(folder)]
        done = subprocess.run(
            words, env=os.environ | env, capture_output=True, text=True, timeout=90, check=False
        )
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1, done.stderr
        assert last.startswith(f"longseq: 1 of 1 could not be sent to {server.address}: ")
        assert "WANDB_API_KEY" in last
        assert not server.lines
    assert KEY not in done.stdout + done.stderr
    keyless(tmp_path)


def test_a_file_that_ends_within_a_record_is_sent_once(offline_run: Path, tmp_path: Path) -> None:
    """As that of a run that was killed: no key is to blame, unless the server refuses it."""
    folder = tmp_path / "run"
    shutil.copytree(offline_run, folder, symlinks=True)
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    file.write_bytes(file.read_bytes()[:-9])
    with Server() as server:
        env = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY, "WANDB_MODE": ""}
        env |= {"HOME": str(tmp_path)}
        words = [sys.executable, "-m", "longseq", "sync", str(folder)]
        for refusal, code in (("user is not logged in", 1), ("", 0), ("", 0)):
            server.refusal = refusal
            done = subprocess.run(
                words, env=os.environ | env, capture_output=True, text=True, timeout=90, check=False
            )
            assert done.returncode == code, done.stderr
            assert ("WANDB_API_KEY (or" in done.stderr) == bool(refusal)
            assert ("It ends within a record" in done.stderr) != bool(refusal)
        (name,) = server.runs
        assert [row["iteration"] for row in server.history(name)] == [1, 2, 3]
    file.write_bytes(file.read_bytes() + b"more")
    assert not sync._is_cut(file.parent)
    for mark, sent in ((b"%d\n" % file.stat().st_size, True), (b"", False), (b"\xff", False)):
        Path(f"{file}{sync.CUT}").write_bytes(mark)
        assert sync._is_cut(file.parent) == sent


def test_a_server_that_is_out_of_order_is_refused_at_once() -> None:
    with Server() as server:
        server.status = 503
        with pytest.raises(UserError) as raised:
            sync.reach(server.address)
        assert f"{server.address} answers 503 (Service Unavailable) and takes no runs" in str(
            raised.value
        )
        server.status = 404
        sync.reach(server.address)


@pytest.mark.parametrize("home", ["", "/dev/null/home"])
def test_without_a_home_the_screen_shows_nothing_of_wandbs(tmp_path: Path, home: str) -> None:
    """Its service has a log in the home's cache, and where there is none wrote it to the screen."""
    done = run(tmp_path, "close", HOME=home, XDG_CACHE_HOME="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "children 0\n", "")
    assert not list((tmp_path / "run" / "wandb").glob("tmp*"))


@pytest.mark.parametrize("how", ["fails", "fails without its service"])
def test_of_a_run_that_fails_our_hook_alone_speaks(tmp_path: Path, how: str) -> None:
    """wandb's prints the traceback before, and Python's exit one of a service that was killed."""
    done = run(tmp_path, how)
    assert (done.returncode, done.stderr) == (1, "our hook\n")
    assert not list((tmp_path / "run" / "wandb").glob("tmp*"))


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "close", WANDB_MODE="disabled")
    assert done.stdout == "children 0\n"
    assert list((tmp_path / "run" / "wandb").iterdir()) == []


FULL = """
import sys, time
from pathlib import Path
from longseq.run.wandb_sink import Told, WandbSink
from tests.faults.chain_events import fill
disk = Path(sys.argv[1])
sink = WandbSink(disk, "p", "offline", {})
if sys.argv[2] == "quota":  # of which the file system does not tell
    sink._look_for_room = lambda: None
def write(i):
    try:
        sink.write({"iteration": i, "lm_loss": 1 / i, "event": "x" * 1000})
    except Told as told:
        print(told, flush=True)
write(1)
while not list(disk.glob("wandb/offline-run-*/*.wandb")):
    time.sleep(0.1)
fill(disk)
for i in range(2, 100):
    write(i)
try:
    sink.close(0)
except Told as told:
    print(told)
"""


@pytest.mark.parametrize(("what", "why"), [("full", "no space"), ("quota", "its file is short")])
def test_a_full_disk_is_said_once(tmp_path: Path, what: str, why: str) -> None:
    """wandb's own service loses what finds no room without a word."""
    if reason := why_not():
        pytest.skip(reason)
    with small_disk(tmp_path, "2m"):
        env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", FULL, str(tmp_path), what]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path}/wandb: {why}")


def test_killed_run_leaves_no_process_and_nothing_in_tmpdir(tmp_path: Path) -> None:
    """wandb's service watches its parent: gone without close, it goes too. Here it has just been
    started, and the folder of its port file is still there.

    On a busy machine it needs seconds to end its own monitor of the host, and more to start.
    """
    done = run(tmp_path, "kill")
    assert done.returncode == 3
    mark = f"HOME={tmp_path}".encode()
    for _ in range(600):
        left = [p for p in Path("/proc").glob("[0-9]*/environ") if mark in _read(p)]
        if not left:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"still running: {[(p.parent / 'cmdline').read_text() for p in left]}")
    assert list((tmp_path / "tmp").iterdir()) == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
