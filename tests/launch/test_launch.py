"""The command, its ranks, its end: what train-gpt3.sh starts and what comes back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launch.planned import KILLED, says_who_was_killed
from tests.launch.shell import ROOT, Result, Tree, options, processes_with, write_script
from tests.parallel.ranks import left_in_shared_memory, shared_files

Bash = Callable[..., Result]

# A trainer that writes down what it was started with; END: how each rank ends
RECORD = """
import json, os, sys
rank = os.environ["RANK"]
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
seen = {"argv": sys.argv[1:], "cwd": os.getcwd(), **{n: os.environ.get(n) for n in names}}
with open(os.path.join(os.environ["RECORD"], rank + ".json"), "w") as file:
    json.dump(seen, file)
exec(os.environ.get("END", ""))
"""

# A trainer that runs until it is told to stop, and says what it was told and how often
PATIENT = """
import os, signal, sys, time
rank, told = os.environ["RANK"], []
def stop(number, frame):
    told.append(signal.Signals(number).name)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, stop)
open(os.path.join(os.environ["RECORD"], rank + ".up"), "w").close()
end = time.time() + 60
while not told and time.time() < end:
    time.sleep(0.05)
time.sleep(0.5)
with open(os.path.join(os.environ["RECORD"], rank + ".told"), "w") as file:
    file.write(" ".join(told))
sys.exit(75)
"""


@pytest.fixture
def ready(tree: Tree) -> Tree:
    """A tree with an environment and a recording trainer; RECORD is its home."""
    tree.environment()
    tree.trainer(RECORD)
    return tree


def recorded(tree: Tree) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(tree.home.glob("[0-9]*.json"))]


def wait_for(test: Callable[[], bool], seconds: float = 40) -> bool:
    end = time.monotonic() + seconds
    while not test() and time.monotonic() < end:
        time.sleep(0.05)
    return test()


# ---------------------------------------------------------------- the launcher


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("HYDRA build details:", []),
        ("mpiexec (OpenRTE) 4.1.4", ["--oversubscribe", "--bind-to", "none"]),
        ("mpirun (Open MPI) 5.0.3", ["--oversubscribe", "--bind-to", "none"]),
    ],
)
def test_flags_of_the_launcher_that_is_here(
    bash: Bash, tmp_path: Path, version: str, flags: list[str]
) -> None:
    mpiexec = write_script(tmp_path / "bin/mpiexec", f'#!/bin/sh\necho "{version}"\n')
    script = """LONGSEQ_VENV=/nowhere LONGSEQ_RANKS=3 LONGSEQ_HOSTS=(localhost) LONGSEQ_DEVICE=cpu
        longseq_default_facts; longseq_mpiexec; printf '%s\\n' "${LONGSEQ_LAUNCHER[@]}" """
    root = ["--allow-run-as-root"] if flags and os.geteuid() == 0 else []
    found = bash(script, PATH=f"{tmp_path}/bin:/usr/bin:/bin").stdout.split()
    assert found == [str(mpiexec), "-n", "3", *flags, *root]


TOY = """
longseq_toy_recognise() { [[ $1 == *"Toy MPI"* ]]; }
longseq_toy_facts() { LONGSEQ_NUMBERS=TOY_RANK,TOY_SIZE,TOY_LOCAL; }
longseq_toy_command() { LONGSEQ_LAUNCHER=("$1" --ranks "$LONGSEQ_RANKS"); }
"""
TOY_PROGRAM = """#!/bin/bash
[[ $1 == --version ]] && echo "Toy MPI 1" && exit
count=$2; shift 2
for ((n = 0; n < count; n++)); do TOY_RANK=$n TOY_SIZE=$count TOY_LOCAL=$n "$@" & done
wait
"""


def test_a_launcher_is_one_file(tree: Tree, tmp_path: Path) -> None:
    """It is recognised by its mpiexec, starts the ranks, and they find their numbers."""
    (tree.root / "ALCF/launchers/toy.sh").write_text(TOY)
    write_script(tmp_path / "toy/bin/mpiexec", TOY_PROGRAM)
    tree.environment(mpi=tmp_path / "toy")
    tree.trainer(RECORD)
    result = tree.launch(RECORD=str(tree.home), NGPUS="4", PMI_RANK="7", SLURM_NTASKS="9")
    assert result.returncode == 0, result.stderr
    assert [(r["RANK"], r["WORLD_SIZE"]) for r in recorded(tree)] == [
        (str(n), "4") for n in range(4)
    ]
    assert "LONGSEQ_STARTER=toy" in tree.launch(DRY_RUN="1").stdout


STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
PTY = STEP | {"SLURM_PTY_PORT": "44383", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (STEP | {"SLURM_PROCID": "1"}, "SLURM_STEP_NUM_TASKS=2"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "PMI_SIZE=4"),
        ({"PALS_SIZE": "4"}, "PALS_SIZE=4"),
        ({"OMPI_COMM_WORLD_SIZE": "12"}, "OMPI_COMM_WORLD_SIZE=12"),
        (PTY | {"PMI_SIZE": "3"}, "PMI_SIZE=3"),  # mpiexec in such a shell
        (PTY | {"SLURM_PROCID": "1"}, "SLURM_STEP_NUM_TASKS=2"),  # srun in one
        (PTY | {"PMI_SIZE": "2"}, ""),  # `srun -N 2 --pty bash`, PMI being Slurm's
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, ""),
        ({"PMI_SIZE": "1", "SLURM_NTASKS": "2"}, ""),  # salloc, sbatch
    ],
)
def test_one_of_several_tasks_starts_no_run(bash: Bash, env: dict[str, str], named: str) -> None:
    """Variables as Slurm 22.05 sets them: each task would start all ranks, on one port."""
    done = bash("longseq_check_alone", **env)
    says = f"longseq: {named}: this script starts its ranks by itself: call it once, without srun"
    assert done.returncode == (2 if named else 0)
    assert done.stderr == (f"{says} or mpiexec\n" if named else "")


@pytest.mark.parametrize(
    "words",
    [
        "train-gpt3.sh",
        "use.sh score outputs/x genome.fa",
        "bench.sh --list",
        "doctor.sh",
        "submit.sh",
        "train-gpt3.sh polaris",  # submits there
    ],
)
def test_no_script_starts_a_run_for_each_task(tree: Tree, words: str) -> None:
    program, *more = words.split()
    env = {"DRY_RUN": "1", "SITE_MODULES": "0", "PMI_SIZE": "2", "MACHINE": "workstation"}
    if more == ["polaris"] or program == "submit.sh":
        more, env["MACHINE"] = [], "polaris"
    _, full = tree.command(**env)
    done = subprocess.run(
        [str(tree.root / "ALCF" / program), *more], env=full, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "PMI_SIZE=2: this script starts its ranks by itself" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_profile_that_names_no_launcher_is_refused(bash: Bash) -> None:
    script = "longseq_default_facts; LONGSEQ_MPI=opemnpi; longseq_choose_launcher"
    result = bash(script)
    assert result.returncode == 2
    assert "LONGSEQ_MPI=opemnpi" in result.stderr


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1"}, "3 4 1"),
        ({"PMI_RANK": "5", "PMI_SIZE": "8", "PMI_LOCAL_RANK": "1"}, "5 8 1"),
        (
            {
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            },
            "3 4 1",
        ),
        ({"PALS_RANKID": "3", "PALS_SIZE": "4", "PALS_LOCAL_RANKID": "1"}, "3 4 1"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}, "3 4 1"),
        ({}, "0 1 0"),
        # inside a Slurm job, but started by an mpiexec of its own
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}
            | {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"},
            "1 2 1",
        ),
    ],
)
def test_ranks_are_numbered_whatever_the_launcher(env: dict[str, str], expected: str) -> None:
    command = ["/bin/sh", str(ROOT / "ALCF/rank.sh"), "/bin/sh", "-c"]
    command.append('echo "$RANK $WORLD_SIZE $LOCAL_RANK"')
    found = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == expected


@pytest.mark.parametrize(("device", "sees"), [("cpu", ""), ("cuda", "0,1"), ("", "0,1")])
def test_ranks_on_a_cpu_see_no_gpu(device: str, sees: str) -> None:
    command = ["/bin/sh", str(ROOT / "ALCF/rank.sh"), "/bin/sh", "-c"]
    command.append('echo "${CUDA_VISIBLE_DEVICES-unset}"')
    env = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "0,1", "DS_ACCELERATOR": device}
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == sees


def test_the_port_is_free(bash: Bash) -> None:
    """A port that somebody listens on is passed over."""
    listen = "import socket,sys,time;s=socket.socket();s.bind(('127.0.0.1',int(sys.argv[1])));"
    listen += "s.listen();print('up',flush=True);time.sleep(30)"
    script = f"""longseq_free_port; first=$REPLY
        exec 4< <(exec python3 -c "{listen}" "$first"); listener=$!
        read -r _ <&4
        longseq_free_port; echo "$first $REPLY"; kill "$listener" """
    first, second = (int(port) for port in bash(script).stdout.split())
    assert first != second
    assert all(20000 <= port < 30000 for port in (first, second))


@pytest.mark.parametrize(
    ("cores", "ranks", "given", "threads"),
    [(8, 2, "", "4"), (2, 2, "", "1"), (2, 8, "", "1"), (8, 2, "3", "3"), (7, 2, "", "3")],
)
def test_cores_are_shared_out(bash: Bash, cores: int, ranks: int, given: str, threads: str) -> None:
    script = f"""LONGSEQ_DEVICE=cpu LONGSEQ_DEVICES={cores} LONGSEQ_RANKS_PER_HOST={ranks}
        longseq_threads; echo "$REPLY" """
    assert bash(script, OMP_NUM_THREADS=given).stdout.strip() == threads


# ---------------------------------------------------------------- a dry run


def test_a_dry_run_touches_nothing(tree: Tree) -> None:
    before = tree.listing()
    result = tree.launch(DRY_RUN="1")
    assert result.returncode == 0, result.stderr
    assert tree.listing() == before


def test_a_dry_run_looks_for_the_data(tree: Tree) -> None:
    result = tree.launch(DRY_RUN="1", DATA_PATH="/no/such.fa")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--data-path /no/such.fa (DATA_PATH): No such file or directory" in result.stderr
    address = tree.launch(DRY_RUN="1", DATA_PATH="https://site.edu/x.fa")
    assert address.returncode == 2
    assert "--data-path https://site.edu/x.fa (DATA_PATH) is a URL" in address.stderr


def test_a_dry_run_prints_the_deepspeed_config(tree: Tree) -> None:
    text = tree.launch(DRY_RUN="1", MICRO_BATCH="3", GAS="2", ZERO_STAGE="1").stdout
    config = json.loads(text.split("# ds_config.json\n")[1].split("# command\n")[0])
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["gradient_accumulation_steps"] == 2
    assert config["zero_optimization"]["stage"] == 1


@pytest.mark.parametrize("name", ["plain", "a b'c\"d$(touch PWN)ü;&|<>*?~#", "a\nb", "~"])
def test_the_printed_command_can_be_pasted(ready: Tree, name: str) -> None:
    """It runs in another shell and folder with the arguments that the launcher would give."""
    data = ready.root / name
    data.write_text(">x\nACGT\n")
    extra = ["--swiglu", "--tensorboard-dir", name]
    env = {"DATA_PATH": str(data), "OUTPUT_DIR": f"{ready.home}/{name}", "RECORD": str(ready.home)}
    dry = ready.launch("--", *extra, DRY_RUN="1", **env)
    assert dry.returncode == 0, dry.stderr
    elsewhere = ready.home / "elsewhere"
    elsewhere.mkdir()
    command = dry.stdout.split("# command\n")[1]
    subprocess.run(
        ["/bin/bash", "-c", command],
        env={"PATH": "/usr/bin:/bin", "RECORD": str(ready.home)},
        cwd=elsewhere,
        check=True,
        timeout=60,
        capture_output=True,
    )
    ranks = recorded(ready)
    assert len(ranks) == 2
    for rank in ranks:
        assert rank["argv"][-3:] == extra
        assert options(rank["argv"])["--data-path"] == str(data)
        assert rank["argv"][rank["argv"].index("--run-dir") + 1].startswith(env["OUTPUT_DIR"] + "/")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("name", ["plain", "sp ace", "it's a $x"])
def test_how_to_go_on_can_be_pasted(bash: Bash, tmp_path: Path, name: str, made: bool) -> None:
    """Of its own checkpoint, or else of what it went on from itself."""
    run = tmp_path / name
    (run / "checkpoints/step-7").mkdir(parents=True)
    if made:
        (run / "checkpoints/step-7/manifest.json").touch()
    script = "LONGSEQ_RUN=$1; declare -A LONGSEQ_VALUE=([LOAD]=$1); longseq_tell_load"
    said = bash(script, str(run)).stderr.strip().partition("with ")[2]
    paste = ["/bin/bash", "-c", f'{said}\nprintf %s "$LOAD"']
    done = subprocess.run(paste, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (str(run), "")
    assert name != "plain" or said == f"LOAD={run}"


def test_how_to_go_on_is_not_wrong_of_what_is_saved_otherwise(bash: Bash, tmp_path: Path) -> None:
    """By Megatron-DeepSpeed, or elsewhere: there may be a checkpoint, and not what LOAD said."""
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n')
    script = "LONGSEQ_RUN=$1 LONGSEQ_ARGS=(--save $1/checkpoints {})"
    script += "; declare -A LONGSEQ_VALUE=([LOAD]={}); longseq_tell_load"
    for moved in ("--save elsewhere", "--save=elsewhere"):
        for load in ("", "run-0"):
            assert bash(script.format(moved, load), str(tmp_path)).stderr == ""
    assert "no checkpoint to go on" in bash(script.format("--bf16", ""), str(tmp_path)).stderr
    (tmp_path / "checkpoints/global_step4").mkdir(parents=True)
    (tmp_path / "checkpoints/latest_checkpointed_iteration.txt").write_text("4")
    said = f"longseq: its newest checkpoint is of iteration 4: go on with LOAD={tmp_path}\n"
    for load in ("", "run-0"):
        assert bash(script.format("", load), str(tmp_path)).stderr == said


@pytest.mark.parametrize("trained", [True, False])
def test_a_launcher_that_ends_without_a_word(bash: Bash, tmp_path: Path, trained: bool) -> None:
    """A limit that it may have met is named, and that what was trained is lost."""
    (tmp_path / "log").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n' * trained)
    script = "declare -A LONGSEQ_VALUE=(); ulimit -v {}; LONGSEQ_RUN=$1; longseq_finish 127"
    done = bash(f"{script.format(4000000)}; echo $REPLY", str(tmp_path))
    said = "longseq: the launcher ended with status 127, and no rank said why:"
    said += f" {tmp_path}/log/rank*.out"
    limit = "; ulimit -v leaves a process 4000000 KiB of addresses, perhaps too few"
    lost = "longseq: it made no checkpoint to go on from\n" * trained
    assert (done.stdout, done.stderr) == ("127\n", f"{said}{limit}\n{lost}")
    assert bash(script.format("unlimited"), str(tmp_path)).stderr == f"{said}\n{lost}"


def test_no_key_in_what_is_printed(tree: Tree) -> None:
    result = tree.launch(DRY_RUN="1", WANDB_API_KEY="s3cret" * 6)
    assert "s3cret" not in result.stdout + result.stderr


def test_the_defaults_are_said_with_the_reason(tree: Tree) -> None:
    said = tree.launch(DRY_RUN="1").stderr
    assert "GPT_SMALL (the default on a CPU; MODEL_SIZE_KEY chooses another)" in said
    assert "network   4 layers, hidden 256, 8 heads\n" in said
    layout = "2 ranks = tp 2 with sequence parallel x ulysses 1 x ring 1 x dp 1"
    assert f"layout    {layout}\nbatch     2 x 512 tokens\n" in said
    assert "batch     2 x 131,072 tokens" in tree.launch(DRY_RUN="1", SEQ_LEN="128k").stderr


OTHERS = """--num-layers 2 --hidden-size 32 --num-attention-heads 4 --num-key-value-heads 2
--seq-length 256
--tensor-model-parallel-size 1 --micro-batch-size 2 --global-batch-size 4""".split()


@pytest.mark.parametrize("program", ["train-gpt3.sh", "submit.sh"])
def test_what_is_said_is_what_will_be_trained(tree: Tree, program: str) -> None:
    """Arguments behind -- come last and win."""
    _, env = tree.command(DRY_RUN="1", NGPU_PER_HOST="2", USE_SEQUENCE_PARALLEL="0")
    env |= {"DS_ACCELERATOR": "cpu", "SITE_MODULES": "0"}
    env |= {"MACHINE": "pbs", "PROJECT": "genes"} if program == "submit.sh" else {}
    command = [str(tree.root / "ALCF" / program), "--", *OTHERS]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert "network   2 layers, hidden 32, 4 heads on 2 key-value heads" in said
    assert "layout    2 ranks = tp 1 x ulysses 1 x ring 1 x dp 2" in said
    assert "batch     4 x 256 tokens" in said
    assert not re.search("hidden 256|tensor 2|512 tokens|global batch 2", done.stderr)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (["SEQ_LEN=4"], {}, "variables go before the command"),
        (["--swiglu"], {}, "go after --"),
        (["train"], {}, "unknown argument train"),
        (["--", "--swiglu", "--nonsense"], {}, "--nonsense"),
        ([], {"SEQ_LEN": "1001"}, "1001"),
        ([], {"NGPUS": "3"}, "does not divide"),
        ([], {"DATA_PATH": "/no/such.fa"}, "/no/such.fa"),
        ([], {"USE_SEQUENCE_PARALLEL": "1", "MPSIZE": "1"}, "--sequence-parallel"),
        ([], {"DTYPE": "fp16"}, "fp16"),
        ([], {"OUTPUT_DIR": "/proc/nowhere"}, "/proc/nowhere"),
        ([], {"OUTPUT_DIR": "/tmp/" + "z" * 256}, "OUTPUT_DIR=/tmp/zz"),
        ([], {"LOAD": "/tmp/" + "ü" * 128}, "more than 255 letters"),
        (["--", "--save", "/tmp/" + "z" * 256], {}, "File name too long"),
        ([], {"TMPDIR": "/dev/null"}, "TMPDIR=/dev/null: Not a directory"),
        ([], {"TMPDIR": "/proc"}, "TMPDIR=/proc: "),
        ([], {"MASTER_PORT": "abc"}, "MASTER_PORT=abc"),
        ([], {"MASTER_ADDR": "no-such-host.invalid"}, "MASTER_ADDR=no-such-host.invalid"),
        ([], {"OMP_NUM_THREADS": "-1"}, "OMP_NUM_THREADS=-1"),
        ([], {"NGPUS": "100000"}, "100000 ranks a host"),
        ([], {"BATCH_SIZE": "4"}, "did you mean MICRO_BATCH?"),
    ],
)
def test_a_mistake_is_one_line_before_any_rank(
    ready: Tree, words: list[str], env: dict[str, str], said: str
) -> None:
    result = ready.launch(*words, RECORD=str(ready.home), **env)
    assert result.returncode == 2, result.stderr
    lines = [x for x in result.stderr.splitlines() if x.startswith("longseq: ") and "note" not in x]
    assert len(lines) == 1, result.stderr
    assert said in lines[0]
    assert "Traceback" not in result.stderr
    assert recorded(ready) == []


@pytest.mark.parametrize(
    ("starter", "folder", "code", "made"),
    [
        ("hydra", "", 0, False),
        ("hydra", "new/one", 0, False),  # they do without
        ("openmpi", "new/one", 0, True),
        ("openmpi", "file/one", 2, False),
        ("openmpi", ".", 0, True),
    ],
)
def test_a_tmpdir_that_launchers_cannot_use_is_refused(
    bash: Bash, tmp_path: Path, starter: str, folder: str, code: int, made: bool
) -> None:
    (tmp_path / "file").touch()
    given = str(tmp_path / folder) if folder else ""
    script = "LONGSEQ_STARTER=$1 LONGSEQ_SETTINGS=(A=1); longseq_check_temporary"
    result = bash(script, starter, TMPDIR=given)
    note = "is not there: programs" if starter == "hydra" else "was not there: it is made now"
    said = f"longseq: note: TMPDIR={given} {note}" if folder == "new/one" else ""
    assert (result.returncode, result.stderr.count("\n")) == (code, int(code != 0 or said != ""))
    assert said in result.stderr
    assert not made or Path(given).is_dir()
    assert made or not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("longseq-*"))


def test_a_tmpdir_that_is_full_or_not_used_is_no_mistake(bash: Bash, tmp_path: Path) -> None:
    """The next job of a chain may find room; a site's own scratch stands in for a long one."""
    full = """mktemp() { echo "mktemp: failed to make it: No space left on device" >&2; false; }
        LONGSEQ_STARTER=hydra LONGSEQ_SETTINGS=(A=1); longseq_check_temporary"""
    assert bash(full, TMPDIR="/tmp").returncode == 73
    fuller = """head() { echo "head: error writing: No space left on device" >&2; false; }
        LONGSEQ_STARTER=hydra LONGSEQ_SETTINGS=(A=1); longseq_check_temporary"""
    result = bash(fuller, TMPDIR=str(tmp_path))
    assert result.returncode == 73
    assert f"there is no room in TMPDIR={tmp_path}: free some" in result.stderr
    assert not list(tmp_path.iterdir())
    other = "LONGSEQ_STARTER=hydra LONGSEQ_SETTINGS=(TMPDIR=/x); longseq_check_temporary"
    assert bash(other, TMPDIR="/dev/null").returncode == 0


def test_an_empty_data_file_is_refused(ready: Tree) -> None:
    data = ready.home / "empty.fa"
    data.touch()
    result = ready.launch(DATA_PATH=str(data), RECORD=str(ready.home))
    assert result.returncode == 2
    assert str(data) in result.stderr
    assert recorded(ready) == []


def test_a_mistake_is_found_before_an_installation(tree: Tree) -> None:
    """No environment yet: the user hears of it now and not after minutes of pip."""
    write_script(tree.root / "install.sh", "#!/bin/sh\necho installing; exit 9\n")
    result = tree.launch(SEQ_LEN="1001")
    assert (result.returncode, result.stdout) == (2, "")
    assert tree.launch().returncode == 9


# ---------------------------------------------------------------- ranks and their end


def test_ranks_get_their_numbers_and_arguments(ready: Tree) -> None:
    result = ready.launch("--", "--swiglu", RECORD=str(ready.home), NGPUS="4", MPSIZE="2")
    assert result.returncode == 0, result.stderr
    ranks = recorded(ready)
    assert [(r["RANK"], r["LOCAL_RANK"], r["WORLD_SIZE"]) for r in ranks] == [
        (str(n), str(n), "4") for n in range(4)
    ]
    assert len({r["MASTER_PORT"] for r in ranks}) == 1
    assert all(r["argv"] == ranks[0]["argv"] for r in ranks)
    run = Path(options(ranks[0]["argv"])["--run-dir"])
    assert run.parent == ready.root / "outputs"
    assert (run / "ds_config.json").is_file()


def test_it_works_from_anywhere_by_a_link_without_home(ready: Tree, tmp_path: Path) -> None:
    link = tmp_path / "train"
    link.symlink_to(ready.root / "ALCF/train-gpt3.sh")
    _, env = ready.command(RECORD=str(ready.home), OUTPUT_DIR="runs here")
    del env["HOME"]
    subprocess.run([str(link)], env=env, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    run = options(recorded(ready)[0]["argv"])["--run-dir"]
    assert Path(run).parent == tmp_path / "runs here"
    assert Path(run).is_dir()


def test_it_works_in_a_folder_with_blanks_and_quotes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tree = Tree(tmp_path / 'it\'s a "tree" $x', home)
    tree.environment()
    tree.trainer(RECORD)
    result = tree.launch(RECORD=str(home))
    assert result.returncode == 0, result.stderr
    assert len(recorded(tree)) == 2


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_trainers_exit_code_comes_back(ready: Tree, code: int) -> None:
    result = ready.launch(RECORD=str(ready.home), END=f"sys.exit({code})")
    assert result.returncode == code


SLOW = """def prepare_run(options: argparse.Namespace) -> int:
    import os, time
    open(os.environ["RECORD"] + "/checking", "w").close()
    time.sleep(60)
"""
FIRST = """#!/bin/sh
kill -TERM $PPID
exec /usr/bin/readlink "$@"
"""
ONE_BY_ONE = """
import os, time
import mpi4py
mpi4py.rc.finalize = False
from mpi4py import MPI
from longseq.run.safety.abort import take_leave
MPI.Finalize()
take_leave()
time.sleep(0.5 * int(os.environ["RANK"]))
os._exit(0)
"""


def test_ranks_may_end_one_after_another(tree: Tree) -> None:
    """Hydra kills the rest when a rank of MPI's goes without a word."""
    tree.environment()
    tree.trainer(ONE_BY_ONE)
    result = tree.launch(NGPUS="2", PYTHONPATH=str(tree.root))
    assert result.returncode == 0, result.stderr


def launcher(tree: Tree, tmp_path: Path, name: str) -> None:
    """Give the tree an environment whose mpiexec is that launcher's, where it is here."""
    if name == "hydra":
        tree.environment()
        return
    mpirun = shutil.which("mpirun.openmpi")
    if mpirun is None:
        pytest.skip("mpirun.openmpi is not here")
    (tmp_path / "openmpi/bin").mkdir(parents=True)
    (tmp_path / "openmpi/bin/mpiexec").symlink_to(mpirun)
    tree.environment(mpi=tmp_path / "openmpi")


@pytest.mark.parametrize("name", ["hydra", "openmpi"])
def test_a_rank_that_is_killed_is_named_and_ends_all(tree: Tree, tmp_path: Path, name: str) -> None:
    """Within seconds, with where to go on from, leaving no process and no shared memory."""
    launcher(tree, tmp_path, name)
    tree.trainer(KILLED)
    shared = shared_files()
    result = tree.launch(RECORD=str(tree.home))
    assert result.returncode == 128 + signal.SIGKILL
    says_who_was_killed(result.stderr, os.uname().nodename)
    assert wait_for(lambda: processes_with(f"RECORD={tree.home}") == [], 5)
    assert left_in_shared_memory(shared) == set()


def test_the_kernels_killing_for_memory_is_said(tmp_path: Path) -> None:
    """By the kernel's own count, which a stand-in for awk raises."""
    count = f"#!/bin/sh\necho x >>{tmp_path}/n; wc -l <{tmp_path}/n\n"
    write_script(tmp_path / "awk", count)
    program = write_script(tmp_path / "program", "#!/bin/sh\nkill -KILL $$\n")
    rank = ["/bin/sh", str(ROOT / "ALCF/rank.sh"), str(program)]
    env = {"PATH": "/usr/bin:/bin"}
    result = subprocess.run(rank, env=env, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL
    assert "was ended by SIGKILL: the host ran out of memory" in result.stderr


@pytest.mark.parametrize(
    ("name", "log", "script"),
    [("TERM", 1, ""), ("INT", 1, ""), ("USR1", 1, ""), ("USR1", 1, "INT"), ("TERM", 0, "")],
)
def test_told_before_it_listens_a_rank_stops_early(
    tmp_path: Path, name: str, log: int, script: str
) -> None:
    """While Python starts and imports; also where the launcher signals one process alone. Without a
    script that reads the log the code is the rank's own. script: what that was sent, where it
    passed on another for it.
    """
    if log:
        (tmp_path / "log").mkdir()
    if script:
        (tmp_path / "log/signal.txt").write_text(f"{script}\n")
    program = f"import os, time; open('{tmp_path}/up', 'w').close(); time.sleep(30)"
    process = subprocess.Popen(
        ["/bin/sh", str(ROOT / "ALCF/rank.sh"), "/usr/bin/python3", "-c", program],
        env={
            "PATH": "/usr/bin:/bin",
            "LONGSEQ_LOG": str(tmp_path / "log"),
            "RECORD": str(tmp_path),
        },
    )
    assert wait_for((tmp_path / "up").exists)
    process.send_signal(getattr(signal, f"SIG{name}"))
    ends_by = "TERM" if name == "INT" else name  # what a shell starts beside itself is deaf to INT
    assert process.wait(10) == (-getattr(signal, f"SIG{ends_by}") if log else 75)
    if log:
        said = (tmp_path / "log/failed-0.txt").read_text().splitlines()
        why = f"longseq: stopped before the first iteration by SIG{script or ends_by}"
        assert said[2:] == ["75", "0", why]
    assert processes_with(f"RECORD={tmp_path}") == []


@pytest.mark.parametrize(
    ("name", "told", "whole_group"),
    [
        *(("TERM", "SIGTERM", False), ("TERM", "SIGTERM", True)),
        *(("INT", "SIGINT", False), ("INT", "SIGINT", True)),
        *(("HUP", "SIGTERM", True), ("USR1", "SIGUSR1", False)),
    ],
)
def test_a_signal_reaches_every_rank_once(
    tree: Tree, name: str, told: str, whole_group: bool
) -> None:
    """Also Ctrl-C, which the terminal sends to the whole group, and of which a second one means:
    at once. Of the others another one changes nothing.
    """
    tree.environment()
    tree.trainer(PATIENT)
    assert tell(tree, getattr(signal, f"SIG{name}"), whole_group) == [{told}] * 2
    if name == "INT":
        assert [path.read_text() for path in tree.home.glob("*.told")] == ["SIGINT"] * 2


def tell(tree: Tree, number: int, whole_group: bool, one_by_one: bool = False) -> list[set[str]]:
    """What the ranks of PATIENT were told when the launch was sent a signal: its script, its group,
    or each of its processes.
    """
    command, env = tree.command(RECORD=str(tree.home))
    process = subprocess.Popen(
        command,
        env=env,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Under nohup, as this suite may be, bash could not even trap it
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        assert wait_for(lambda: len(list(tree.home.glob("*.up"))) == 2)
        if one_by_one:
            for pid in processes_with(f"RECORD={tree.home}"):
                os.kill(pid, number)
        else:
            (os.killpg if whole_group else os.kill)(process.pid, number)
        assert process.wait(30) == 75
    finally:
        process.kill()
        process.communicate()
    assert processes_with(f"RECORD={tree.home}") == []
    return [set(p.read_text().split()) for p in sorted(tree.home.glob("*.told"))]


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_open_mpis_ranks_are_told_to_save(tree: Tree, tmp_path: Path, name: str) -> None:
    """As the machine's own MPI; of TERM and INT it would kill them in a second."""
    launcher(tree, tmp_path, "openmpi")
    tree.trainer(PATIENT)
    assert tell(tree, getattr(signal, f"SIG{name}"), whole_group=True) == [{"SIGUSR1"}] * 2


def test_open_mpis_ranks_may_save_where_all_processes_are_told(tree: Tree, tmp_path: Path) -> None:
    """The launcher as well: a scheduler's, or `pkill`. A save takes longer than it would wait."""
    launcher(tree, tmp_path, "openmpi")
    tree.trainer(PATIENT.replace("time.sleep(0.5)", "time.sleep(2.5)"))
    told = tell(tree, signal.SIGTERM, whole_group=False, one_by_one=True)
    assert ["SIGTERM" in rank for rank in told] == [True] * 2


DEAF = """LONGSEQ_DEAF_TO=TERM,INT LONGSEQ_ENDED_BY=HUP LONGSEQ_RUN=$1 LONGSEQ_PYTHON=$2
LONGSEQ_HOSTNAME=here LONGSEQ_COMMAND=(sleep 600) LONGSEQ_BESIDE=
tell() { # in the place of idle.sh's watch: what it ends it still ends
    # Not by its mask: bash itself blocks both while it forks
    until [[ $(</proc/$1/comm) == sleep ]]; do sleep 0.05; done
    kill -TERM $1; kill -INT $1
    sleep 0.2
    grep -c "^ShdPnd:.*4002$" /proc/$1/status
    longseq_end_group $1
}
longseq_watch_idle() { tell "$1"; }
longseq_run || echo $?
"""


def test_a_launcher_that_cannot_hear_is_still_ended(bash: Bash, tmp_path: Path) -> None:
    assert bash(DEAF, str(tmp_path), sys.executable).stdout.split() == ["1", "129"]


def test_a_stranger_with_our_name_does_not_block_a_run(ready: Tree) -> None:
    """The predecessor took any `pretrain_gpt.py` in ps, such as an editor, for a running job."""
    editor = subprocess.Popen(["/bin/sleep", "60"], executable="/bin/sleep")
    named = subprocess.Popen(["/bin/sh", "-c", "exec sleep 60", "vi pretrain_gpt.py"])
    try:
        assert ready.launch(RECORD=str(ready.home)).returncode == 0
    finally:
        for process in (editor, named):
            process.kill()
            process.wait()


def test_two_runs_at_once_meet_in_no_file(ready: Tree) -> None:
    """The predecessor had one ds_config-gpt.json for all."""
    command, env = ready.command(RECORD=str(ready.home))
    runs = [
        subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in runs:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert len(list((ready.root / "outputs").glob("*/ds_config.json"))) == 2
    assert not list(ready.root.glob("*.json"))


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_told_while_the_data_are_prepared_it_stops(ready: Tree, name: str) -> None:
    """Before a rank starts, and the check's process ends as well."""
    check = ready.root / "longseq/run/check.py"
    check.write_text(check.read_text().replace(SLOW.splitlines(True)[0], SLOW))
    command, env = ready.command(RECORD=str(ready.home))
    process = subprocess.Popen(command, env=env, cwd=ready.root, stderr=subprocess.PIPE, text=True)
    assert wait_for((ready.home / "checking").exists)
    process.send_signal(getattr(signal, f"SIG{name}"))
    _, said = process.communicate(timeout=20)
    assert process.returncode == 75, said
    assert "Traceback" not in said
    assert recorded(ready) == []
    assert processes_with(f"RECORD={ready.home}") == []


def test_told_in_the_scripts_first_moments_it_stops(ready: Tree) -> None:
    """The signal waits until bash has set its traps: a stand-in for readlink, its first program."""
    path = write_script(ready.home / "bin/readlink", FIRST).parent
    command, env = ready.command(RECORD=str(ready.home))
    env["PATH"] = f"{path}:{env['PATH']}"
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (result.returncode, recorded(ready)) == (75, [])
    assert result.stderr == "longseq: stopped before its ranks were started\n"
