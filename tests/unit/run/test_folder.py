"""The run's folder: never shared, repeatable, without secrets, and clear about why it cannot be
made.
"""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longseq.errors import UserError
from longseq.run import folder as run_folder
from longseq.run.folder import (
    claim_run_folder,
    environment,
    git_state,
    is_secret,
    launch_variables,
    make_run_folder,
    run_name,
    write_command,
    write_environment,
)


def test_name_is_safe_in_any_shell() -> None:
    name = run_name("a b;$(x)/../é", "tp2", 2048, 1234, job="77.host", when=0)
    assert name.startswith("a-b-x-..-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not name.startswith((".", "-"))
    assert "s2048_seed1234" in name
    assert len(run_name("x" * 999, "tp2", 1, 1)) <= 200


def test_job_id_comes_from_the_scheduler() -> None:
    assert run_folder.job_id({"PBS_JOBID": "123.polaris-pbs"}) == "123"
    assert run_folder.job_id({"SLURM_JOB_ID": "9"}) == "9"
    assert run_folder.job_id({}) == f"pid{os.getpid()}"


def test_jobs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_run_folder(tmp_path, "run"), range(24)))
    assert len(set(made)) == 24
    assert {"log", "checkpoints", "tensorboard", "wandb"} == {p.name for p in made[0].iterdir()}


def test_a_claimed_folder_is_refused_to_the_second(tmp_path: Path) -> None:
    claim_run_folder(tmp_path / "run")
    with pytest.raises(UserError, match=r"--run-dir .*run exists"):
        claim_run_folder(tmp_path / "run")


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(UserError, match=r"cannot be made in .*outputs: .*OUTPUT_DIR"):
        make_run_folder(tmp_path / "outputs", "run")


def test_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UserError, match=f"{tmp_path}: no space left"):
        make_run_folder(tmp_path, "run")


HOSTILE = {
    "SEQ_LEN": "128k",
    "DATA_PATH": "/tmp/a b'c\"d\n$(touch PWNED)`x`\\",
    "WANDB_PROJECT": "ünï",
    "LONGSEQ_EMPTY": "",
}
SECRET = {
    "WANDB_API_KEY": "hunter2",
    "LONGSEQ_HF_TOKEN": "hunter2",
    "LONGSEQ_MY_SECRET_THING": "hunter2",
    "LONGSEQ_PASSWORD": "hunter2",
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
        for entry in (tmp_path / "env.txt").read_bytes().decode().split("\0")
        if entry
    )
    assert {name: env.get(name) for name in HOSTILE} == HOSTILE
    assert not (SECRET | UNRELATED).keys() & env.keys()
    assert not list(tmp_path.rglob("PWNED"))


def test_no_secret_in_the_command(tmp_path: Path) -> None:
    text = write_command(tmp_path, ["x"], SECRET | UNRELATED, tmp_path).read_text()
    assert "hunter2" not in text
    assert "WANDB_API_KEY" in text  # said to be left out


@pytest.mark.parametrize(
    "name",
    ["WANDB_API_KEY", "HF_TOKEN", "AWS_PROFILE", "MY_SECRET", "DB_PASSWORD", "SSH_PRIVATE_KEY"],
)
def test_secret_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["MODEL_SIZE_KEY", "TOKENIZER", "OMP_NUM_THREADS", "PATH", "KMP_AFFINITY"]
)
def test_names_that_only_look_alike(name: str) -> None:
    assert not is_secret(name, "x")


def test_job_specific_variables_do_not_travel() -> None:
    kept, _ = launch_variables(
        {"MASTER_ADDR": "h", "PBS_JOBID": "1", "SLURM_JOB_ID": "2", "SEED": "1"}
    )
    assert kept == {"SEED": "1"}


def test_environment_names_versions_without_importing(tmp_path: Path) -> None:
    got = json.loads(write_environment(tmp_path, ["h1", "h2"], ranks=2).read_text())
    assert got["hosts"] == ["h1", "h2"]
    assert got["ranks"] == 2
    assert got["packages"]["torch"]
    assert got["memory_gib"] > 0
    assert environment()["python"]["version"].count(".") == 2


def test_commit_is_of_our_own_tree_only(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    run = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*run, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*run, "add", "f"], check=True)
    subprocess.run([*run, "commit", "-qm", "1"], check=True)
    (tmp_path / "site-packages").mkdir()
    state = git_state(tmp_path)
    assert state is not None
    assert len(state["id"]) == 40
    assert state["changed_files"] == 0
    (tmp_path / "f").write_text("2")
    assert (git_state(tmp_path) or {})["changed_files"] == 1
    assert git_state(tmp_path / "site-packages") is None
