"""The profiles: how each machine is recognised, and the whole dry run of each as a golden file.

After a change that is meant:  UPDATE_GOLDEN=1 ./tests/run.sh tests/launch/test_machines.py
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Result, clean_env, write_script

Bash = Callable[..., Result]
GOLDEN = Path(__file__).with_name("golden")
PROFILES = sorted(path.stem for path in (ROOT / "ALCF/machines").glob("*.sh"))
EXAMPLE = {"MODEL_SIZE_KEY": "GPT25B", "SEQ_LEN": "128k"}  # the README's network and length


def node_file(folder: Path, names: list[str]) -> str:
    path = folder / f"nodes-{names[0]}"
    path.write_text("".join(f"{name}\n" for name in names))
    return str(path)


def allocation(profile: str, folder: Path) -> dict[str, str]:
    """What a job of 32 GPUs sees on that machine (24 tiles' nodes on Aurora, one host at home)."""
    x3 = [f"x3004c0s{n}b{m}n0" for n in (13, 19, 25, 31) for m in (0, 1)]
    pbs = {"PBS_JOBID": "1234567.pbs-01"}
    slurm = {"SLURM_JOB_ID": "1234567"}
    return {
        "polaris": pbs | {"PBS_NODEFILE": node_file(folder, x3)},
        "sirius": pbs | {"PBS_NODEFILE": node_file(folder, x3), "PBS_O_HOST": "sirius-login-01"},
        "aurora": pbs
        | {"PBS_NODEFILE": node_file(folder, ["x4102c5s0b0n0", "x4102c5s1b0n0"])}
        | {"NGPU_PER_HOST": "8"},
        "sophia": pbs | {"PBS_NODEFILE": node_file(folder, [f"sophia-gpu-0{n}" for n in range(4)])},
        "thetagpu": {"COBALT_JOBID": "1234567"}
        | {"COBALT_NODEFILE": node_file(folder, [f"thetagpu0{n}" for n in range(1, 5)])},
        "perlmutter": slurm | {"SLURM_JOB_NODELIST": "nid[001001-001006,001010-001011]"},
        "frontier": slurm | {"SLURM_JOB_NODELIST": "frontier[00001-00004]"},
        "slurm": slurm | {"SLURM_JOB_NODELIST": "gpu-[1-8]"},
        "pbs": pbs | {"PBS_NODEFILE": node_file(folder, [f"n{k}" for k in range(8) for _ in "ab"])},
        "workstation": {},
    }[profile]


def dry_run(folder: Path, env: dict[str, str], program: str = "train-gpt3.sh", *words: str) -> str:
    """stdout of a dry run where the generic machines have 4 GPUs, less what differs by the day."""
    smi = "\n".join(f"GPU {n}: A100" for n in range(4))
    bin_ = write_script(folder / "bin/nvidia-smi", f"#!/bin/sh\necho '{smi}'\n").parent
    write_script(bin_ / "mpiexec", "#!/bin/sh\necho HYDRA\n")
    usual = {"DRY_RUN": "1", "PLAN": "0", "OUTPUT_DIR": "/runs"}  # test_plan_switch.py plans
    full = clean_env(folder, {**usual, **EXAMPLE, **env})
    full["PATH"] = f"{bin_}:{full['PATH']}"
    done = subprocess.run(
        [str(ROOT / "ALCF" / program), *words],
        env=full,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace(str(bin_), "BIN").replace(str(Path(sys.executable).parent), "VENV")
    text = text.replace(str((ROOT / "venvs").resolve()), "ROOT/venvs")  # a worktree's may be a link
    text = text.replace(str(ROOT), "ROOT").replace(str(folder), "")
    text = re.sub(r"_\d{8}-\d{6}(_job\d+)?_\d+", "_DATE", text)
    text = re.sub(r"/venvs/([a-z]+)/[a-z0-9.-]+/", r"/venvs/\1/PYTHON/", text)
    # The tests' Python is a workstation's environment, or one outside of this tree
    text = text.replace("ROOT/venvs/workstation/PYTHON/bin", "VENV")
    text = text.replace("BIN/mpiexec", "VENV/mpiexec")
    text = re.sub(r"PYTHON=\S+", "PYTHON=python3", text)
    text = re.sub(r"    (--allow-run-as-root|--oversubscribe|-x PYTHON\w+) \\\n", "", text)
    return re.sub(r"MASTER_PORT=2\d{4}", "MASTER_PORT=PORT", text) if not env else text


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path} is what was reviewed; see the head of {__file__}"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_dry_run_is_the_one_that_was_reviewed(profile: str, tmp_path: Path) -> None:
    env = allocation(profile, tmp_path)
    compare(f"{profile}.txt", dry_run(tmp_path, env and {"MACHINE": profile, **env}))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_small_and_says_what_nobody_verified(profile: str) -> None:
    lines = (ROOT / f"ALCF/machines/{profile}.sh").read_text().splitlines()
    assert len(lines) < 60
    if profile not in ("pbs", "slurm", "workstation"):
        assert re.search(r"# .*\bU\b|unverified|U, unverified", "\n".join(lines))


# ---------------------------------------------------------------- which machine is this?

FIND = 'longseq_find_machine; echo "$LONGSEQ_MACHINE $LONGSEQ_NODE"'


@pytest.mark.parametrize(
    ("host", "env", "found"),
    [
        ("thetagpu12", {}, "thetagpu compute"),
        ("thetagpusn1", {}, "thetagpu login"),
        ("thetagpusn2", {}, "thetagpu login"),
        ("sophia-gpu-07", {}, "sophia compute"),
        ("sophia-login-01", {}, "sophia login"),
        ("x3004c0s13b1n0", {}, "polaris compute"),
        ("x3004c0s13b1n0.hsn.cm.polaris.alcf.anl.gov", {}, "polaris compute"),
        ("x3004c0s13b1n0", {"PBS_O_HOST": "sirius-login-01"}, "sirius compute"),
        ("polaris-login-03", {}, "polaris login"),
        ("x4102c5s0b0n0", {}, "aurora compute"),
        ("aurora-uan-0010", {}, "aurora login"),
        ("nid001234", {"NERSC_HOST": "perlmutter"}, "perlmutter compute"),
        ("login07", {"NERSC_HOST": "perlmutter"}, "perlmutter login"),
        ("nid001234", {}, "workstation compute"),
        ("nid001234", {"SLURM_JOB_ID": "7"}, "slurm compute"),
        ("login07", {"LMOD_SYSTEM_NAME": "frontier"}, "frontier login"),
        ("frontier00123", {}, "frontier compute"),
        ("node3", {"PBS_JOBID": "7.pbs", "PBS_NODEFILE": "/etc/hostname"}, "pbs compute"),
        ("theta-party", {}, "workstation compute"),  # the predecessor took every host for ThetaGPU
        ("laptop", {}, "workstation compute"),
        ("laptop", {"MACHINE": "polaris"}, "polaris login"),
        ("x3004c0s13b1n0", {"MACHINE": "slurm"}, "slurm login"),
        ("x3004c0s13b1n0", {"MACHINE": "workstation"}, "workstation compute"),
        ("polaris-login-03", {"PBS_NODEFILE": "/etc/hostname"}, "polaris compute"),
    ],
)
def test_machines_are_recognised(
    bash: Bash, tmp_path: Path, host: str, env: dict[str, str], found: str
) -> None:
    write_script(tmp_path / "bin/uname", f"#!/bin/sh\necho {host}\n")
    result = bash(FIND, PATH=f"{tmp_path}/bin:/usr/bin:/bin", **env)
    assert result.stdout.strip() == found, result.stderr


@pytest.mark.parametrize(("program", "found"), [("qsub", "pbs login"), ("sbatch", "slurm login")])
def test_a_scheduler_makes_a_login_node(
    bash: Bash, tmp_path: Path, program: str, found: str
) -> None:
    write_script(tmp_path / f"bin/{program}", "#!/bin/sh\n")
    conf = tmp_path / "slurm.conf"
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    if program == "sbatch":  # Slurm's programs alone, without a cluster, make no login node
        assert bash(FIND, PATH=path, SLURM_CONF=str(conf)).stdout.strip() == "workstation compute"
        conf.touch()
        # A Slurm site with a qsub for those who come from PBS
        write_script(tmp_path / "bin/qsub", "#!/bin/sh\n")
        job = bash(FIND, PATH=path, SLURM_CONF=str(conf), SLURM_JOB_ID="7", PBS_JOBID="7")
        assert job.stdout.strip() == "slurm compute"
    assert bash(FIND, PATH=path, SLURM_CONF=str(conf)).stdout.strip() == found


# ---------------------------------------------------------------- what the profile says is done


def test_fewer_gpus_a_node_keep_their_order(tmp_path: Path) -> None:
    env = {"MACHINE": "polaris", **allocation("polaris", tmp_path)}
    text = dry_run(tmp_path, env | {"NGPU_PER_HOST": "2", "NHOSTS": "4"})
    assert "CUDA_VISIBLE_DEVICES=3,2 \\\n" in text
    assert "-n 8 \\\n    --ppn 2" in text
    hosts = text.split("# hosts.txt\n")[1].split("# ds_config")[0].split()
    assert hosts == [f"x3004c0s{n}b{m}n0" for n in (13, 19) for m in (0, 1)]


def test_few_ranks_go_to_few_hosts(tmp_path: Path) -> None:
    env = {"MACHINE": "polaris", **allocation("polaris", tmp_path)}
    text = dry_run(tmp_path, env | {"NGPUS": "8"})
    assert "-n 8 \\\n    --ppn 4" in text


def test_one_switch_leaves_out_the_sites_nccl(tmp_path: Path) -> None:
    env = {"MACHINE": "polaris", **allocation("polaris", tmp_path)}
    on, off = dry_run(tmp_path, env), dry_run(tmp_path, env | {"SITE_NCCL": "0"})
    assert "NCCL_COLLNET_ENABLE=1" in on
    assert "aws-ofi-nccl" in on
    assert not re.search(r"NCCL_|FI_|LD_LIBRARY", off)
    mine = dry_run(tmp_path, env | {"NCCL_CROSS_NIC": "2"})
    assert "NCCL_CROSS_NIC=1" not in mine
    assert "NCCL_COLLNET_ENABLE=1" in mine


OFF = """
longseq_find_machine; longseq_read_table; longseq_profile_modules() { module load conda; }
module() {
    export NCCL_NET="AWS Libfabric" NCCL_DEBUG=WARN FI_X=1 LD_LIBRARY_PATH=/m/aws-ofi-nccl/lib:/mine
}
longseq_prepare_machine; LONGSEQ_DEVICE=cuda LONGSEQ_DEVICES=4 LONGSEQ_RANKS_PER_HOST=4
LONGSEQ_HOSTS=(a b) LONGSEQ_RUN=/r LONGSEQ_RANKS=8 LONGSEQ_VENV=/v; longseq_read_variables
longseq_wrap program; longseq_wrap program
echo "${LONGSEQ_COMMAND[*]}"; env | grep -E "^(NCCL|FI|LD_L)" || :
"""


def test_the_switch_unsets_what_the_modules_of_the_site_set(bash: Bash) -> None:
    """conda's module exports NCCL_NET and more, and --envall would pass them on."""
    env = {"MACHINE": "polaris", "PBS_NODEFILE": "/etc/hostname", "NCCL_MINE": "2"}
    env |= {"FI_MR_CACHE_MONITOR": "userfaultfd", "FI_Y": "mine"}
    off = bash(OFF, **env, SITE_NCCL="0").stdout.splitlines()
    assert off[0].startswith("env -u ")
    unset = [word for before, word in itertools.pairwise(off[0].split()) if before == "-u"]
    assert sorted(unset) == ["FI_MR_CACHE_MONITOR", "FI_X", "NCCL_DEBUG", "NCCL_NET"]
    assert sorted(off[1:]) == ["FI_Y=mine", "LD_LIBRARY_PATH=/mine", "NCCL_MINE=2"]
    on = bash(OFF, **env).stdout
    assert "NCCL_NET=AWS Libfabric" in on
    assert " -u " not in on


def test_options_of_ones_own_reach_the_launcher(tmp_path: Path) -> None:
    env = {"MACHINE": "polaris", **allocation("polaris", tmp_path)}
    mine = dry_run(tmp_path, env | {"LAUNCH_ARGS": "--exclude 'a b' --env X=$(touch PWN)"})
    assert "--cpu-bind depth \\\n    --exclude a\\ b \\\n    --env X=\\$\\(touch PWN\\)" in mine
    bound = dry_run(tmp_path, env | {"LAUNCH_ARGS": "--cpu-bind list:0:8:16:24"})
    assert "--depth" not in bound
    assert bound.count("--cpu-bind") == 1


def test_a_step_on_the_cores_has_them(bash: Bash) -> None:
    script = """longseq_default_facts; LONGSEQ_DEVICE=cuda LONGSEQ_RANKS_PER_HOST=2
        longseq_count_cores() { REPLY=32; }
        longseq_read_variables; longseq_threads; echo "$REPLY" """
    assert bash(script).stdout == "1\n"
    assert bash(script, OFFLOAD_DEVICE="cpu").stdout == "16\n"
    bound = "LONGSEQ_BIND=(--depth=8 --cpu-bind depth);"
    bound = script.replace("longseq_count_cores()", f"{bound} longseq_count_cores()")
    assert bash(bound, OFFLOAD_DEVICE="cpu").stdout == "8\n"


def test_a_node_without_its_gpus_is_refused(bash: Bash, tmp_path: Path) -> None:
    script = 'longseq_find_machine; longseq_count_devices; echo "$LONGSEQ_DEVICE $LONGSEQ_DEVICES"'
    env = {"MACHINE": "polaris", "PBS_NODEFILE": "/etc/hostname"}
    result = bash(script, **env)
    assert result.returncode == 2
    assert "no GPU is seen here, and a node of polaris has 4" in result.stderr
    assert bash(script, **env, DS_ACCELERATOR="cpu").stdout.startswith("cpu ")
    refused = bash(script, **env, DS_ACCELERATOR="tpu")
    assert (refused.returncode, "DS_ACCELERATOR=tpu" in refused.stderr) == (2, True)
    other = bash(script, MACHINE="aurora", PBS_NODEFILE="/etc/hostname", DS_ACCELERATOR="cuda")
    assert (other.returncode, "driven by xpu" in other.stderr) == (2, True)


@pytest.mark.parametrize("driver", ["gt/gt", "device/tile"])
def test_a_tile_of_intels_is_a_device(bash: Bash, tmp_path: Path, driver: str) -> None:
    """Six cards of two tiles by i915's list or xe's, beside the host's own display."""
    for card in range(7):
        folder = tmp_path / f"class/drm/card{card}"
        (folder / "device").mkdir(parents=True)
        (folder / "device/vendor").write_text("0x1a03\n" if card == 6 else "0x8086\n")
        (tmp_path / f"class/drm/card{card}-VGA-1").mkdir()
        for tile in range(2):
            (folder / f"{driver}{tile}").mkdir(parents=True)
    script = 'longseq_find_machine; longseq_count_devices; echo "$LONGSEQ_DEVICE $LONGSEQ_DEVICES"'
    script += "; longseq_tell_untried"
    env = {"MACHINE": "aurora", "PBS_NODEFILE": "/etc/hostname"}
    found = bash(script, **env, LONGSEQ_SYSFS=str(tmp_path))
    assert found.stdout == "xpu 12\n"
    assert "on Intel's GPUs this has never been run" in found.stderr
    assert bash(script, **env, LONGSEQ_SYSFS="/none").stdout == "xpu 12\n"  # by the profile


MODULES = """
longseq_find_machine
module() { echo "module $*"; [[ $2 != "${BROKEN-}" ]]; }
conda() { echo "conda $*"; unset_variable="$NOT_SET"; export CONDA_PREFIX=/conda; }
longseq_prepare_machine
echo "$- ${http_proxy-}" >&2
"""


def test_modules_are_loaded_once_and_strict_mode_comes_back(bash: Bash) -> None:
    env = {"MACHINE": "polaris", "PBS_NODEFILE": "/etc/hostname"}
    result = bash(MODULES, **env)
    said = [line for line in result.stderr.splitlines() if line.startswith(("module", "conda"))]
    assert said == ["module use /soft/modulefiles", "module load conda", "conda activate base"]
    options, proxy = result.stderr.splitlines()[-1].split()
    assert {"e", "u"} <= set(options)
    assert proxy == "http://proxy.alcf.anl.gov:3128"
    for mine in ("CONDA_PREFIX", "VIRTUAL_ENV", "PYTHON"):
        assert "module load" not in bash(MODULES, **env, **{mine: "/mine"}).stderr
    assert "module load" not in bash(MODULES, **env, SITE_MODULES="0").stderr
    broken = bash(MODULES, **env, BROKEN="conda")
    assert (broken.returncode, "SITE_MODULES=0" in broken.stderr) == (2, True)
    assert bash(MODULES, **env, SITE_MODULES="perhaps").returncode == 2


def test_a_host_without_modules_says_so(bash: Bash) -> None:
    script = "longseq_find_module_command() { return 1; }; longseq_find_machine"
    result = bash(script + "; longseq_prepare_machine", MACHINE="polaris")
    assert result.returncode == 0
    assert "there is no `module` command here" in result.stderr
