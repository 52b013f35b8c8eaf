"""Weights & Biases as it is set up: which mode, no key in any file, no process left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.errors import UserError
from longseq.run.wandb_sink import chain_id, wandb_mode

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
tracker = open_tracker(folder, print, wandb_project="p", settings={"hidden": 256})
for i in range(1, 4):
    tracker.log({"iteration": i, "lm_loss": 1 / i})
if sys.argv[2] == "close":
    tracker.close()
    children = [p for p in Path("/proc").glob("[0-9]*/stat")
                if p.read_text().rsplit(")", 1)[1].split()[1] == str(os.getpid())]
    print("children", len(children))
else:
    time.sleep(float(sys.argv[2]))
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


def test_offline_run_keeps_everything_but_the_key(tmp_path: Path) -> None:
    done = run(tmp_path, "close", WANDB_API_KEY=KEY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "children 0\n", "")
    stored = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(stored) == 1
    content = stored[0].read_bytes()
    assert b"lm_loss" in content
    assert b"hidden" in content
    assert b"report.html" in content  # of the artifact, which is sent with the rest
    # What is to be sent lies with the run, not at home
    assert list((tmp_path / "tmp").iterdir()) == []
    kept = (tmp_path / "run" / "wandb" / "data").rglob("*")
    assert [path.read_text() for path in kept if path.is_file()] == ["the page"]
    assert not list((tmp_path / "run" / "wandb").glob("tmp*"))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 3


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
    assert main(["sync", str(tmp_path / "a")]) == 2
    assert "no records that wait" in capsys.readouterr().err
    folders = [tmp_path / run / "wandb" / f"offline-run-{run}" for run in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    sent: list[list[str]] = []

    def send(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        sent.append(words[1:])
        return subprocess.CompletedProcess(words, len(sent) - 1)

    monkeypatch.setattr(subprocess, "run", send)
    assert main(["sync", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert sent == [["-m", "wandb", "sync", "--yes", str(folder)] for folder in folders]
    assert "1 of 2 could not be sent" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["sync", str(tmp_path / "a")]) == 2
    assert "no key" in capsys.readouterr().err


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "close", WANDB_MODE="disabled")
    assert done.stdout == "children 0\n"
    assert list((tmp_path / "run" / "wandb").iterdir()) == []


def test_killed_run_leaves_no_process(tmp_path: Path) -> None:
    """wandb's service watches its parent: gone without close, it goes too."""
    done = run(tmp_path, "4")
    assert done.returncode == 3
    mark = f"HOME={tmp_path}".encode()
    for _ in range(100):
        left = [p for p in Path("/proc").glob("[0-9]*/environ") if mark in _read(p)]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {[(p.parent / 'cmdline').read_text() for p in left]}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
