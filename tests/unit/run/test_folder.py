"""The run's folder: never shared, repeatable, without secrets, and clear about why it cannot be
made.
"""

import errno
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longseq.errors import FullDisk, UserError
from longseq.host.atomic_files import reason
from longseq.run.folder import claim_run_folder, write_command
from tests.faults.chain_events import fill
from tests.launch.cluster import small_disk, why_not


def test_of_jobs_that_start_together_one_gets_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")

    def claim(_: int) -> int:
        try:
            claim_run_folder(tmp_path / "run")
        except UserError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(24))) == 1
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made == {"log", "checkpoints", "tensorboard", "wandb"}


def test_what_is_not_recorded_has_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    made = {path.name for path in claim_run_folder(tmp_path / "run").iterdir()}
    assert made == {"log", "checkpoints", "tensorboard"}


def test_a_claimed_folder_is_refused_to_the_second(tmp_path: Path) -> None:
    claim_run_folder(tmp_path / "run")
    with pytest.raises(UserError, match=r"--run-dir .*run exists"):
        claim_run_folder(tmp_path / "run")


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(UserError, match=r"cannot be made in .*outputs: .*OUTPUT_DIR"):
        claim_run_folder(tmp_path / "outputs/run")


def test_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UserError, match=f"{tmp_path}: no space left"):
        claim_run_folder(tmp_path / "run")


def test_a_disk_that_takes_no_file_more_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free bytes would be of no use; where files are not counted (btrfs) there are 0 of 0."""
    disk = list(os.statvfs(tmp_path))

    def counts(total: int, free: int) -> None:
        counted = os.statvfs_result([*disk[:5], total, free, free, *disk[8:]])
        monkeypatch.setattr(os, "statvfs", lambda _: counted)

    for free, said in ((1, "no space left"), (0, r"no room for one more file, .*`df -i`")):
        counts(10, free)
        assert re.match(said, reason(OSError(errno.ENOSPC, "x", str(tmp_path / "gone"))))
    monkeypatch.setattr(
        os, "statvfs", lambda _: os.statvfs_result([*disk[:5], 10, 0, 0, *disk[8:]])
    )
    with pytest.raises(FullDisk, match=rf"in {tmp_path}: no room for one more file"):
        claim_run_folder(tmp_path / "run")
    counts(0, 0)
    assert claim_run_folder(tmp_path / "run")


def test_nothing_is_to_be_freed_where_nobody_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    said = f"made in {tmp_path}: Read-only file system; set OUTPUT_DIR to a folder that you can"
    with pytest.raises(UserError, match=said):
        claim_run_folder(tmp_path / "run")


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    """Whether it says so itself, or, as with a quota, the first file that finds no room."""
    if reason := why_not():
        pytest.skip(reason)
    with small_disk(tmp_path, "6m,nr_inodes=4"):  # one for itself
        with pytest.raises(FullDisk, match=f"in {tmp_path}/out: no room for one more file"):
            claim_run_folder(tmp_path / "out/run")
        assert [path.name for path in tmp_path.rglob("*")] == ["out"]
    with small_disk(tmp_path, "6m"):
        with pytest.raises(FullDisk, match=f"in {tmp_path}/out: no space left .*; free some, or"):
            claim_run_folder(tmp_path / "out/run", {"a": "x" * (1 << 23)})
        assert [path.name for path in tmp_path.rglob("*")] == ["out"]
        fill(tmp_path)
        with pytest.raises(FullDisk, match=f"in {tmp_path}/out: less than 4 MiB are free"):
            claim_run_folder(tmp_path / "out/run")
        assert list((tmp_path / "out").iterdir()) == []


HOSTILE = {
    "SEQ_LEN": "128k",
    "DATA_PATH": "/tmp/a b'c\"d\n$(touch PWNED)`x`\\",
    "WANDB_PROJECT": "ünï",
    "WANDB_NOTES": "in Latin-1: \udcfc",  # a byte that is no UTF-8, as Python has it
    "NCCL_EMPTY": "",
}
SECRET = {
    "WANDB_API_KEY": "hunter2",
    "HF_TOKEN": "hunter2",
    "TORCH_MY_SECRET_THING": "hunter2",
    "WANDB_PASSWORD": "hunter2",
    "https_proxy": "http://me:hunter2@proxy:3128",
}
UNRELATED = {"AWS_ACCESS_KEY_ID": "hunter2", "GITHUB_TOKEN": "hunter2", "HOME": "/h", "PS1": "$"}


def test_command_repeats_the_run_exactly(tmp_path: Path) -> None:
    """Run the written script and compare what it hands to the command with what was given."""
    show = tmp_path / "show me"
    show.write_text('#!/bin/sh\nenv -0 > env.txt; printf "%s\\0" "$PWD" "$@" > argv.txt\n')
    show.chmod(0o755)
    argv = ["--a", "b c", "", "it's", "$(touch PWNED)", "x\ny", "*"]
    script = write_command(tmp_path, [str(show), *argv], HOSTILE | SECRET | UNRELATED, tmp_path)
    subprocess.run([script], check=True, env={"PATH": os.environ["PATH"]}, cwd="/")
    assert (tmp_path / "argv.txt").read_bytes().decode().split("\0")[:-1] == [str(tmp_path), *argv]
    env = dict(
        entry.split("=", 1)
        for entry in (tmp_path / "env.txt")
        .read_bytes()
        .decode(errors="surrogateescape")
        .split("\0")
        if entry
    )
    assert {name: env.get(name) for name in HOSTILE} == HOSTILE
    assert not (SECRET | UNRELATED).keys() & env.keys()
    assert not list(tmp_path.rglob("PWNED"))


def test_no_secret_in_the_command(tmp_path: Path) -> None:
    text = write_command(tmp_path, ["x"], SECRET | UNRELATED, tmp_path).read_text()
    assert "hunter2" not in text
    assert "WANDB_API_KEY" in text  # said to be left out


def test_what_belongs_to_one_job_is_not_repeated(tmp_path: Path) -> None:
    env = {"PBS_JOBID": "1", "SLURM_JOB_ID": "2", "LONGSEQ_JOB": "/j", "DRY_RUN": "1", "SEED": "1"}
    text = write_command(tmp_path, ["x"], env, tmp_path).read_text()
    assert [line for line in text.splitlines() if line.startswith("export ")] == ["export SEED=1"]
