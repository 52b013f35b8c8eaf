"""What a run ran on: versions without imports, the commit of our own tree only."""

import json
import os
import subprocess
from pathlib import Path

from longseq.run.environment import environment, git_state, job_id, write_environment


def test_job_id_comes_from_the_scheduler() -> None:
    assert job_id({"PBS_JOBID": "123.polaris-pbs"}) == "123"
    assert job_id({"SLURM_JOB_ID": "9"}) == "9"
    assert job_id({}) == f"pid{os.getpid()}"


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
    (tmp_path / "site-packages" / "commit.txt").write_text(f"{state['id']} 2\n")  # a job's tree
    assert git_state(tmp_path / "site-packages") == {"id": state["id"], "changed_files": 2}
