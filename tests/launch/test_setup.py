"""Which machine, which Python, how many devices and ranks."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Result, Tree, clean_env, write_script

Bash = Callable[..., Result]
COUNT = 'longseq_count_devices; echo "$LONGSEQ_DEVICE $LONGSEQ_DEVICES"'


def gpus(folder: Path, count: int) -> str:
    """A PATH on which nvidia-smi lists `count` GPUs."""
    lines = "\n".join(f"GPU {n}: NVIDIA A100 (UUID: GPU-{n})" for n in range(count))
    write_script(folder / "nvidia-smi", f"#!/bin/sh\n[ \"$1\" = -L ] && echo '{lines}'\n")
    return f"{folder}:/usr/bin:/bin"


def python(folder: Path, name: str, version: str) -> None:
    write_script(folder / name, f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}"\n')


# ---------------------------------------------------------------- machine


def test_a_machine_that_no_profile_knows_is_a_workstation(bash: Bash) -> None:
    assert bash('longseq_find_machine; echo "$LONGSEQ_MACHINE"').stdout == "workstation\n"


@pytest.mark.parametrize("name", ["nowhere", "../machines/workstation", "a b", "$(touch PWN)", "*"])
def test_unknown_machine_is_refused(bash: Bash, name: str) -> None:
    result = bash("longseq_find_machine", MACHINE=name)
    assert result.returncode == 2
    assert f"MACHINE={name} is not known" in result.stderr
    assert "workstation" in result.stderr


def test_a_profile_is_one_file_and_machine_wins(tree: Tree) -> None:
    text = (ROOT / "ALCF/machines/workstation.sh").read_text()
    (tree.root / "ALCF/machines/atlantis.sh").write_text(
        text.replace("LONGSEQ_NODE=compute", "LONGSEQ_NODE=compute; [[ -n ${ATLANTIS-} ]]", 1)
    )
    find = 'longseq_find_machine; printf "%s" "$LONGSEQ_MACHINE"'
    assert tree.bash(find).stdout == "workstation"
    assert tree.bash(find, ATLANTIS="1").stdout == "atlantis"
    assert tree.bash(find, MACHINE="atlantis").stdout == "atlantis"
    assert tree.bash(find, ATLANTIS="1", MACHINE="workstation").stdout == "workstation"


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"python3": "3.11.7", "python3.13": "3.13.0"}, "3.11.7"),
        ({"python3": "3.9.2", "python3.10": "3.10.1"}, "3.10.1"),
        ({"python3": "3.14.0", "python3.12": "3.12.1"}, "3.12.1"),
    ],
)
def test_the_first_python_that_fits(
    bash: Bash, tmp_path: Path, versions: dict[str, str], chosen: str
) -> None:
    for name, version in versions.items():
        python(tmp_path / "bin", name, version)
    script = 'longseq_find_python; echo "$LONGSEQ_PYTHON_VERSION"'
    assert bash(script, PATH=f"{tmp_path}/bin:/nowhere").stdout.strip() == chosen


def test_no_python_that_fits_is_refused_with_what_was_seen(bash: Bash, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3", "3.9.2")
    result = bash("longseq_find_python", PATH=f"{tmp_path}/bin:/nowhere")
    assert result.returncode == 2
    assert "python3=3.9.2" in result.stderr


def test_a_folder_that_is_gone_is_named(bash: Bash, tmp_path: Path) -> None:
    """The one that one is in: no Python is missing."""
    done = bash('mkdir "$HOME/x"; cd "$HOME/x"; rmdir "$HOME/x"; longseq_find_python')
    said = f"longseq: this folder, {tmp_path}/x, is gone: cd to one that is there\n"
    assert (done.returncode, done.stderr) == (2, said)
    done = bash('mkdir "$HOME/x (deleted)"; cd "$HOME/x (deleted)"; longseq_find_python')
    assert (done.returncode, done.stderr) == (0, "")


def test_python_variable_wins_and_must_fit(bash: Bash, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3", "3.11.7")
    python(tmp_path / "a b", "python3", "3.12.5")
    script = 'longseq_find_python; echo "$LONGSEQ_BASE_PYTHON"'
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    other = f"{tmp_path}/a b/python3"
    assert bash(script, PATH=path, PYTHON=other).stdout.strip() == other
    assert bash(script, PATH=path, PYTHON="/no/python").returncode == 2


def test_our_own_environment_is_not_its_own_base(bash: Bash, tmp_path: Path) -> None:
    python(tmp_path / "venvs/workstation/python3.12/bin", "python3", "3.12.5")
    for name in ("pyvenv.cfg", "install.log"):
        (tmp_path / "venvs/workstation/python3.12" / name).touch()
    python(tmp_path / "bin", "python3", "3.11.7")
    script = f'LONGSEQ_ROOT={tmp_path}; longseq_find_python; echo "$LONGSEQ_PYTHON_VERSION"'
    path = f"{tmp_path}/venvs/workstation/python3.12/bin:{tmp_path}/bin:/usr/bin:/bin"
    assert bash(script, PATH=path).stdout.strip() == "3.11.7"
    # Nor through the link that a job's frozen tree has to the folder
    (tmp_path / "job").mkdir()
    (tmp_path / "job/venvs").symlink_to(tmp_path / "venvs")
    linked = script.replace(str(tmp_path), str(tmp_path / "job"))
    assert bash(linked, PATH=path).stdout.strip() == "3.11.7"


def test_condas_python_comes_first_and_names_the_environment(bash: Bash, tmp_path: Path) -> None:
    python(tmp_path / "conda env/bin", "python3", "3.12.5")
    script = """LONGSEQ_MACHINE=workstation; longseq_find_python; longseq_find_environment
        echo "${LONGSEQ_VENV#"$(readlink -m "$LONGSEQ_ROOT/venvs")"}" """
    found = bash(script, CONDA_PREFIX=f"{tmp_path}/conda env").stdout.strip()
    assert re.fullmatch(r"/workstation/conda-conda_env-\d+", found)


def test_the_environment_is_looked_for_where_it_is_made(tree: Tree) -> None:
    """The predecessor's setup.sh looked elsewhere and went on with the system's Python."""
    said = tree.bash('"$LONGSEQ_ROOT/install.sh" --dry-run; longseq_setup; echo "$LONGSEQ_VENV"')
    *_, venv = said.stdout.splitlines()
    assert f"environment  {venv}\n" in said.stdout


@pytest.mark.parametrize("what", ["constraints.txt", "pyproject.toml", "installed-base.txt"])
def test_an_environment_of_other_versions_is_not_finished(tree: Tree, what: str) -> None:
    state = "longseq_setup; longseq_is_installed base && echo yes || echo no"
    assert tree.bash(state).stdout == "no\n"
    venv = tree.environment()
    assert tree.bash(state).stdout == "yes\n"
    path = venv / what if what.startswith("installed") else tree.root / what
    text = path.read_text()
    if what == "pyproject.toml":
        path.write_text(text + "# a setting of the linters\n")
        assert tree.bash(state).stdout == "yes\n"
        path.write_text(text.replace("\ntest = [", "\ntest = [ # changed"))
    else:
        path.write_text(text + "x")
    assert tree.bash(state).stdout == "no\n"


def test_gnu_programs_that_keep_to_posix_digest_the_same(bash: Bash) -> None:
    """To such a sed what follows its script is a file, `--` as well."""
    script = 'longseq_digest_versions; echo "$LONGSEQ_VERSIONS"'
    usual, strict = bash(script), bash(script, POSIXLY_CORRECT="1")
    assert strict.stderr == ""
    assert strict.stdout == usual.stdout != "\n"


def test_what_needs_no_ranks_works_in_an_environment_of_other_versions(tree: Tree) -> None:
    """As after `git pull`: what trains gets one of its own beside it."""
    venv = tree.environment()
    (tree.root / "constraints.txt").write_text("# other versions\n")
    finds = "longseq_setup; echo $LONGSEQ_VENV; longseq_find_finished; echo $LONGSEQ_VENV"
    trains, looks = tree.bash(finds).stdout.split()
    assert re.fullmatch(rf"{venv}-[0-9a-f]{{8}}", trains)
    assert looks == str(venv)


def test_another_python_of_the_same_version_changes_nothing(tree: Tree, tmp_path: Path) -> None:
    """A user who has a virtual environment activated, or a shorter PATH, keeps ours as it is."""
    tree.environment()
    version = tree.bash("longseq_setup; echo ${LONGSEQ_PYTHON_VERSION%.*}").stdout.strip()
    python(tmp_path / "theirs/bin", "python3", f"{version}.99")
    state = "longseq_setup; longseq_is_installed base && echo yes || echo no"
    assert tree.bash(state, PATH=f"{tmp_path}/theirs/bin:/usr/bin:/bin").stdout == "yes\n"


def test_an_environment_for_gpus_serves_without_one(tree: Tree, tmp_path: Path) -> None:
    path = gpus(tmp_path / "bin", 1)
    venv = tree.environment()
    stamp = tree.bash("longseq_setup; longseq_stamp cuda").stdout
    (venv / "installed-base.txt").write_text(stamp)
    state = "longseq_setup; longseq_is_installed base && echo yes || echo no"
    assert tree.bash(state).stdout == "yes\n"
    cpu = tree.bash("longseq_setup; longseq_stamp cpu").stdout
    (venv / "installed-base.txt").write_text(cpu)
    python3 = tree.bash("longseq_setup; echo $LONGSEQ_BASE_PYTHON").stdout.strip()
    assert tree.bash(state, PATH=path, PYTHON=python3).stdout == "no\n"


def test_a_person_may_source_setup(tree: Tree) -> None:
    """As the users of the predecessor do, in a shell of theirs: it finds itself and activates."""
    setup = f"source '{tree.root}/ALCF/setup.sh'"
    setup += '; echo "$? $- [${LONGSEQ_ROOT-}]"; command -v longseq || :'
    command = ["/bin/bash", "--norc", "-i", "-c", f"cd /; {setup}; {setup}"]
    env = clean_env(tree.home, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})

    def said() -> str:
        # In a session of its own: it would take the terminal of who runs the tests, and be stopped
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, start_new_session=True
        )
        return done.stdout

    assert said().splitlines()[0].startswith("2 ")
    venv = tree.environment()
    write_script(venv / "bin/longseq", "#!/bin/sh\n")
    (venv / "bin/activate").unlink(missing_ok=True)
    (venv / "bin/activate").write_text(f"PATH={venv}/bin:$PATH\n")
    state, found, again, _ = said().splitlines()
    assert state.split()[0] == "0"
    assert state.endswith(" []")
    assert "e" not in state.split()[1]
    assert found == f"{venv}/bin/longseq"
    assert again == state


# ---------------------------------------------------------------- devices and ranks


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, "cuda 4"), ("0,1", "cuda 2"), ("3", "cuda 1"), ("0,1,2,3,4,5", "cuda 4")],
)
def test_gpus_are_counted(bash: Bash, tmp_path: Path, visible: str | None, expected: str) -> None:
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert bash(COUNT, PATH=gpus(tmp_path, 4), **env).stdout.strip() == expected


@pytest.mark.parametrize(
    ("visible", "expected"), [({}, "cuda 8"), ({"ROCR_VISIBLE_DEVICES": "0,1"}, "cuda 2")]
)
def test_amds_gpus_are_counted(
    bash: Bash, tmp_path: Path, visible: dict[str, str], expected: str
) -> None:
    """As the kernel lists a node of Frontier: four processors' nodes, eight GPUs."""
    for node in range(12):
        folder = tmp_path / f"class/kfd/kfd/topology/nodes/{node}"
        folder.mkdir(parents=True)
        (folder / "properties").write_text(f"cpu_cores_count 16\nsimd_count {440 * (node > 3)}\n")
    assert bash(COUNT, LONGSEQ_SYSFS=str(tmp_path), **visible).stdout.strip() == expected


SINFO = """#!/bin/sh
case "$*" in
    *mixed*) printf 'gpu:a100:4(S:0-1)\ngpu:8\n' ;;
    *cpu*) echo '(null)' ;;
    *) printf 'gpu:a100:4(S:0-1),tmp:1\n(null)\n' ;;
esac
"""
PBSNODES = """#!/bin/sh
printf 'n1\n     resources_available.ngpus = 4\nn2\n     resources_available.ngpus = 0\n'
"""


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "cuda 4"),
        ({"QUEUE": "mixed", "NGPU_PER_HOST": "6"}, "cuda 8"),
        ({"QUEUE": "cpu"}, "cpu"),
        ({"QUEUE": "cpu", "NGPU_PER_HOST": "4", "DS_ACCELERATOR": "cuda"}, "cuda 4"),
        ({"DS_ACCELERATOR": "cpu"}, "cpu"),
        ({"MACHINE": "pbs"}, "cuda 4"),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_PER_NODE": "a100:2"}, "cuda 2"),  # a shell of salloc's
        ({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}, "cpu"),  # a node of the job has none
    ],
)
def test_gpus_of_nodes_elsewhere_are_asked_of_the_scheduler(
    bash: Bash, tmp_path: Path, env: dict[str, str], expected: str
) -> None:
    write_script(tmp_path / "sinfo", SINFO)
    write_script(tmp_path / "pbsnodes", PBSNODES)
    node = "compute" if "SLURM_JOB_ID" in env else "login"
    script = f"longseq_find_machine; LONGSEQ_NODE={node}; {COUNT}"
    given = {"MACHINE": "slurm", "PATH": f"{tmp_path}:/usr/bin:/bin", **env}
    assert bash(script, **given).stdout.startswith(expected)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (
            {"QUEUE": "mixed"},
            "the nodes here have 4 8 GPUs: say how many yours have (NGPU_PER_HOST)",
        ),
        ({"QUEUE": "cpu", "DS_ACCELERATOR": "cuda"}, "does not say how many GPUs a node has"),
    ],
)
def test_what_the_scheduler_leaves_open_is_asked_of_the_user(
    bash: Bash, tmp_path: Path, env: dict[str, str], said: str
) -> None:
    write_script(tmp_path / "sinfo", SINFO)
    script = f"longseq_find_machine; LONGSEQ_NODE=login; {COUNT}"
    result = bash(script, MACHINE="slurm", PATH=f"{tmp_path}:/usr/bin:/bin", **env)
    assert result.returncode == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("machine", "env", "expected"),
    [
        ("slurm", {}, ""),
        ("pbs", {}, ""),
        ("slurm", {"SLURM_JOB_ID": "7"}, ""),  # a shell of salloc's
        ("pbs", {"NGPU_PER_HOST": "4"}, "cuda 4"),
        ("slurm", {"DS_ACCELERATOR": "cpu"}, "cpu"),
    ],
)
def test_a_scheduler_without_an_answer_has_not_said_none(
    bash: Bash, tmp_path: Path, machine: str, env: dict[str, str], expected: str
) -> None:
    for name in ("sinfo", "pbsnodes", "scontrol"):
        write_script(tmp_path / name, "#!/bin/sh\necho Unable to contact >&2\nexit 1\n")
    script = f"longseq_find_machine; LONGSEQ_NODE=login; {COUNT}"
    done = bash(script, MACHINE=machine, PATH=f"{tmp_path}:/usr/bin:/bin", **env)
    said = f"longseq: {machine} does not answer, so how many GPUs a node has is not known"
    assert (done.returncode, said in done.stderr) == ((0, False) if expected else (2, True))
    assert done.stdout.startswith(expected)


MISMATCH = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"


@pytest.mark.parametrize(
    ("does", "env", "expected"),
    [
        (MISMATCH, {}, ""),
        ("exit 124", {}, ""),  # as `timeout` ends a driver that hangs
        (MISMATCH, {"DS_ACCELERATOR": "cuda"}, ""),
        (MISMATCH, {"DS_ACCELERATOR": "cpu"}, "cpu"),
        (MISMATCH, {"CUDA_VISIBLE_DEVICES": ""}, "cpu"),
        (MISMATCH, {"MACHINE": "polaris"}, "cuda 4"),  # a login node: its GPUs are elsewhere
        ("echo 'GPU 0: NVIDIA A100 (UUID: x)'; echo 'GPU 1 is lost'; exit 15", {}, "cuda 1"),
        ("echo 'No devices were found'; exit 6", {}, "cpu"),
        ("echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9", {}, "cpu"),
        ("echo 'No devices found.'; exit 255", {}, "cpu"),
    ],
)
def test_a_broken_driver_is_not_taken_for_no_gpu(
    bash: Bash, tmp_path: Path, does: str, env: dict[str, str], expected: str
) -> None:
    write_script(tmp_path / "nvidia-smi", f"#!/bin/sh\n{does}\n")
    done = bash(f"longseq_find_machine; {COUNT}", PATH=f"{tmp_path}:/usr/bin:/bin", **env)
    assert (done.returncode, done.stdout.startswith(expected)) == (0 if expected else 2, True)
    if not expected:
        said = "no answer in 20 seconds" if "124" in does else "version mismatch (status 18)"
        assert "longseq: nvidia-smi -L fails here: " in done.stderr
        assert said in done.stderr


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_none(bash: Bash, tmp_path: Path, visible: str) -> None:
    found = bash(COUNT, PATH=gpus(tmp_path, 4), CUDA_VISIBLE_DEVICES=visible)
    assert found.stdout.startswith("cpu ")


def test_a_node_without_gpus_has_no_world_of_zero(bash: Bash, tmp_path: Path) -> None:
    """The predecessor divided by zero where nvidia-smi showed nothing."""
    script = COUNT + "; LONGSEQ_HOSTS=(localhost); longseq_count_ranks; echo $LONGSEQ_RANKS"
    assert bash(script, PATH=gpus(tmp_path, 0)).stdout.splitlines()[-1] == "2"


def test_cores_are_counted_despite_omp_num_threads(bash: Bash) -> None:
    one, all_cores = bash(COUNT, OMP_NUM_THREADS="1").stdout, bash(COUNT).stdout
    assert one == all_cores


def test_more_gpus_than_there_are_is_refused(refusal: Callable[..., str]) -> None:
    line = refusal(device="cuda", devices=4, NGPUS="8")
    assert "8 ranks a host" in line
    assert "4 GPU(s)" in line


def test_more_ranks_than_cores_is_allowed_with_a_notice(bash: Bash) -> None:
    script = """LONGSEQ_DEVICE=cpu LONGSEQ_DEVICES=2 LONGSEQ_HOSTS=(localhost)
        longseq_count_ranks; echo "$LONGSEQ_RANKS" """
    result = bash(script, NGPUS="8")
    assert (result.returncode, result.stdout) == (0, "8\n")
    assert result.stderr == "longseq: note: 8 ranks share 2 core(s), so each will be slow\n"


def test_fewer_hosts_than_allocated(bash: Bash) -> None:
    script = """LONGSEQ_DEVICE=cuda LONGSEQ_DEVICES=4 LONGSEQ_HOSTS=(a b c)
        longseq_count_ranks; echo "$LONGSEQ_RANKS $LONGSEQ_RANKS_PER_HOST ${LONGSEQ_HOSTS[*]}" """
    assert bash(script).stdout == "12 4 a b c\n"
    assert bash(script, NHOSTS="2").stdout == "8 4 a b\n"
    assert bash(script, NGPUS="6", NHOSTS="3").stdout == "6 2 a b c\n"
    assert bash(script, NGPUS="7").returncode == 2


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("program", ["cat", "sed", "sha256sum"])
def test_what_cannot_be_read_is_no_unfinished_environment(
    tree: Tree, tmp_path: Path, program: str
) -> None:
    """That would be removed and made anew, under the runs that it has."""
    venv = tree.environment()
    path = f"{tmp_path / 'stale'}:{clean_env(tree.home, {})['PATH']}"
    write_script(tmp_path / "stale" / program, "#!/bin/sh\necho stale file handle >&2\nexit 1\n")
    result = tree.launch(PATH=path)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.search("made (of|from), cannot be read: nothing is changed", result.stderr)
    assert (venv / "installed-base.txt").exists()


def test_a_link_to_nowhere_is_named(tree: Tree) -> None:
    (tree.root / "venvs").symlink_to("/purged/venvs")
    result = tree.launch(DRY_RUN="1")
    assert result.returncode == 2
    assert f"{tree.root}/venvs is a link to /purged/venvs, which is gone" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_python_beside_one_is_told_by_its_whole_path(tree: Tree) -> None:
    (tree.root / "here").mkdir()
    python(tree.root / "here", "python", "3.11.7")
    script = 'cd -- "$LONGSEQ_ROOT"; longseq_find_python; printf %s "$LONGSEQ_BASE_PYTHON"'
    assert tree.bash(script, PYTHON="here/python").stdout == f"{tree.root}/here/python"


def test_a_shell_that_is_not_bash_is_told(tree: Tree) -> None:
    script = f'. "{tree.root}/ALCF/setup.sh"; echo "status $?"'
    result = subprocess.run(
        ["/bin/sh", "-c", f"unset BASH_VERSION; {script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "status 2\n"
    assert result.stderr == (
        "longseq: ALCF/setup.sh is for bash; in this shell: . venvs/MACHINE/PYTHON/bin/activate\n"
    )


def test_sourced_by_hand_again_after_a_refusal(tree: Tree) -> None:
    venv = tree.environment()
    sourced = f". '{tree.root}/ALCF/setup.sh'; echo $?"
    script = f"PYTHON=/nowhere; {sourced}; unset PYTHON; {sourced}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env=clean_env(tree.home, {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2\n0\n"
    assert f"{venv} is active" in done.stderr


def test_modules_that_are_refused_are_one_line(tree: Tree) -> None:
    result = tree.launch("--", "--help", SITE_MODULES="banana")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_without_awk_a_misspelt_name_is_not_passed_over(tree: Tree, tmp_path: Path) -> None:
    write_script(tmp_path / "none" / "awk", "#!/bin/sh\nexit 127\n")
    path = f"{tmp_path / 'none'}:{clean_env(tree.home, {})['PATH']}"
    result = tree.launch(DRY_RUN="1", SEQ_LENGHT="4k", PATH=path)
    assert result.returncode == 2
    assert "awk fails" in result.stderr
