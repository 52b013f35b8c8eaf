"""The table of variables: bash and Python read it alike, and a row is all that a variable needs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from longseq.host.variables import JOB, REPEAT, Variable, read_table
from longseq.run.folder import write_command
from tests.launch.shell import ARGS_SCRIPT, ROOT, SOURCES, Result, Tree, clean_env, variable_table

Bash = Callable[..., Result]

# ---------------------------------------------------------------- a repeat

# Values that go together, where the first that fits the type would not
TOGETHER = {
    "MODEL_SIZE_KEY": "GPT125M",
    "NGPUS": "8",
    "NGPU_PER_HOST": "8",
    "NHOSTS": "1",
    "SPARE_NODES": "0",
    "MPSIZE": "2",
    "SPSIZE": "2",
    "RINGSIZE": "2",
    "PPSIZE": "1",
    "GLOBAL_BATCH": "9",  # 3 a rank x 3 accumulated
    "MACHINE": "workstation",
    "DS_ACCELERATOR": "cpu",
    "USE_FLASH_ATTN1": "0",
    "USE_FLASH_ATTN2": "1",
    "USE_FLASH_ATTN_V1": "off",
    "USE_FLASH_ATTN_V2": "yes",
    "USE_FLASH_ATTN_V3": "0",
    "USE_FLASH_ATTN_TRITON": "no",
    "USE_FLASH_ATTN": "v2",
}
SAMPLES = {
    "text": "a b'c",
    "path": "no such/$(touch PWN)",
    "count": "3",
    "whole": "7",
    "number": "2.5e-3",
    "tokens": "3k",
    "time": "2:00:00",
    "port": "24242",
    "host": "localhost",
    "words": "--a 'b c'",
}


def sample(row: Variable) -> str:
    """A value of this type that is not the default."""
    if row.name in TOGETHER:
        return TOGETHER[row.name]
    kind = row.type
    if kind.startswith("same "):
        return sample(variable_table()[kind.removeprefix("same ")])
    if kind == "switch":
        return "0" if row.default == "1" else "1"
    if kind.startswith("choice "):
        return kind.split()[-1]
    return SAMPLES[kind]


def every_variable() -> dict[str, str]:
    return {
        row.name: sample(row)
        for row in variable_table().values()
        if row.type != "none" and not row.marks & {"once", "secret"}
    }


def arguments(command: list[str], home: Path, env: dict[str, str]) -> list[str]:
    """The list that a script prints, less what differs by the second and the process."""
    done = subprocess.run(
        command, env=clean_env(home, env), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\0")[:-1]
    run = words[words.index("--run-dir") + 1]
    return [word.replace(run, "RUN") for word in words]


def test_a_repeat_of_a_run_with_every_variable_set_has_its_arguments(tmp_path: Path) -> None:
    env = every_variable() | {"LONGSEQ_ROOT": str(ROOT), "BASH_COVERAGE": ""}
    command = ["/bin/bash", "-c", f"set -euo pipefail\n{SOURCES}{ARGS_SCRIPT}", "bash", "cpu", "2"]
    first = arguments(command, tmp_path, env)
    assert len(first) > 60
    (tmp_path / "no such").mkdir()
    again = ["env", f"LONGSEQ_ROOT={ROOT}", *command]
    write_command(tmp_path, again, clean_env(tmp_path, env), tmp_path)
    # … from another shell, where each is set to something else, or was left over
    other = {name: "1" for name in every_variable() if name != "PYTHON"}
    assert arguments([str(tmp_path / "command.sh")], tmp_path, other) == first
    assert arguments([str(tmp_path / "command.sh")], tmp_path, {}) == first
    # Had any one of them been lost, or a variable been left over, it would show
    text = (tmp_path / "command.sh").read_text()
    assert {name for name in every_variable() if f"\nexport {name}=" not in text} == set()
    assert not list(tmp_path.rglob("PWN"))


def test_a_variable_that_was_not_set_is_not_set_in_a_repeat(tmp_path: Path) -> None:
    write_command(tmp_path, ["/usr/bin/env"], {"SEED": "7"}, tmp_path)
    seen = subprocess.run(
        [str(tmp_path / "command.sh")],
        env={"PATH": "/usr/bin:/bin", "SEQ_LEN": "4k", "SEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "SEED=7" in seen
    assert not [line for line in seen if line.startswith("SEQ_LEN=")]


# ---------------------------------------------------------------- a row is enough


def test_a_plain_variable_is_one_row(tree: Tree, tmp_path: Path) -> None:
    """It is read, checked, listed, and in the arguments, a job's settings and a repeat."""
    table = tree.root / "ALCF/variables.txt"
    row = "LOG_EVERY | count | 10 | --log-interval |  | Iterations between two lines of figures.\n"
    table.write_text(table.read_text().replace("EVAL_INTERVAL |", row + "EVAL_INTERVAL |", 1))
    make = "longseq_setup; longseq_args; echo ${LONGSEQ_ARGS[*]}"
    assert " --log-interval 10 " in tree.bash(make).stdout
    assert " --log-interval 25 " in tree.bash(make, LOG_EVERY="25").stdout
    result = tree.launch(DRY_RUN="1", LOG_EVERY="often")
    assert (result.returncode, "LOG_EVERY=often" in result.stderr) == (2, True)
    assert "did you mean LOG_EVERY" in tree.launch(DRY_RUN="1", LOG_EVERRY="1").stderr
    assert "| LOG_EVERY | a whole number from 1 | 10 |" in tree.launch("--list-variables").stdout
    for where in (JOB, REPEAT):
        kept = read_table(tree.root / "ALCF").keep({"LOG_EVERY": "25"}, where)
        assert kept.values == {"LOG_EVERY": "25"}


def test_the_table_is_well_formed() -> None:
    seen: set[str] = set()
    for row in variable_table().values():
        assert row.marks <= {"hosts", "once", "here", "secret", "aside", "submit"}, row
        main = row.type.removeprefix("same ").removeprefix("older ").split("=")[0]
        if main != row.type:
            assert main in seen, f"{row.name} comes before {main}"
        assert row.type in SAMPLES or row.type.split()[0] in (
            *("switch", "choice", "same", "older", "none"),
        ), row
        assert not row.type.startswith(("same", "older")) or not row.flags
        assert row.meaning.endswith("."), row
        seen.add(row.name)
    assert all(marks <= {"job", "repeat", "hosts", "own"} for _, marks in read_table().others)


# ---------------------------------------------------------------- secrets and others' variables

KEYS = (  # made up, in the forms that their makers give them
    "hf_" + "aBcDeFgHiJkLmNoPq" * 2,
    "ghp_" + "a1B2c3D4e" * 4,
    "gho_" + "a1B2c3D4e" * 4,
    "github_pat_" + "11ABCDEFG0a" * 2 + "_" + "a1B2c3D4" * 7,
    "glpat-" + "a1b2_c3d4-" * 2,
    "sk-" + "aBcDeFgHiJkL3mNoPqRsTuVw" * 2,
    "sk-proj-aB_cD-" + "eFgHiJkLmN1oPqRsTuVwXyZ_" * 4,
    "sk-ant-api03-aBcDeF-" + "GhIjKlMnOpQrStUvWx1YzAbCd-" * 3,
    "sk-or-v1-" + "0f1e2d3c4b5a6978" * 4,
)
NAMES = (
    "hf_pretraining_runs_long",
    "hf_long-context-pretraining-2026",
    "ghp_runs_of_the_last_three_months",
    "sk-pretraining-runs-on-polaris-2026-11-26",
    "sk-LongContextPretrainingOfGenomes",
    "sk-gpt-1b3-s131072_seed1234_20261126-213042",
    "task-aBcDeFgHiJkLmN1oPqRsTuVwXyZ",
)
SECRET = {
    "WANDB_API_KEY": "x",
    "WANDB_COOKIE": "x",
    "WANDB_IDENTITY_TOKEN_FILE": "x",
    "HF_TOKEN": "x",
    "HF_TOKENS": "x",
    "HF_TOKEN2": "x",
    "HF_PWD": "x",
    "HF_MYTOKEN": "x",
    "NCCL_AUTH": "x",
    "WANDB_PASSPHRASE": "x",
    "TORCH_SECRETS": "x",
    "https_proxy": "http://me:hunter2@proxy:3128",
    "http_proxy": "http://hunter2@proxy:3128",
    "HTTP_PROXY": "http://me:p/w@proxy",
    "WANDB_BASE_URL": "HTTPS://a:b@c",
    "WANDB__EXTRA_HTTP_HEADERS": '{"x": "Bearer abcdefghijklmnop"}',
    "WANDB_NOTES": "with hf_abcdefghijklmnopqrstu\nin it",
    **{f"WANDB_NOTES_{number}": f"by {key}" for number, key in enumerate(KEYS)},
}
PLAIN = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_TOKENIZER": "x",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "no_proxy": "localhost,.anl.gov",
    "HTTPS_PROXY": "http://proxy:3128",
    "NCCL_NET": "AWS Libfabric",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "CUDA_LAUNCH_BLOCKING": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TRITON_CACHE_DIR": "/c",
    "PYTHONPATH": "/mine",
    "DS_SKIP_CUDA_CHECK": "1",
    "MPICH_GPU_SUPPORT_ENABLED": "1",
    "HSA_ENABLE_SDMA": "0",
    "MIOPEN_USER_DB_PATH": "/m",
    "WANDB_NOTES2": "skate-park-with-many-obstacles, basic run",
    **{f"WANDB_DIR_{number}": f"/x/{name}" for number, name in enumerate(NAMES)},
}


def test_bash_and_python_agree_on_what_is_secret(bash: Bash) -> None:
    """One file of expressions; each language is shown all names and values of the two lists."""
    given = SECRET | PLAIN
    script = 'for name; do longseq_is_secret "$name" "${!name}" && echo "$name"; done; :'
    found = set(bash(script, *given, **given).stdout.split())
    table = read_table()
    assert found == {name for name, value in given.items() if table.is_secret(name, value)}
    assert found == set(SECRET)


@pytest.mark.parametrize("where", [JOB, REPEAT])
def test_what_belongs_to_a_run_is_kept_and_no_secret(bash: Bash, where: str) -> None:
    env = SECRET | PLAIN | {"HOME": "/h", "PS1": "$", "AWS_ACCESS_KEY_ID": "x", "XDG_SEAT": "1"}
    kept = read_table().keep(env, where)
    assert kept.values == PLAIN
    assert set(kept.secret) == set(SECRET)
    if where == JOB:
        script = """longseq_find_machine; LONGSEQ_SECONDS=60
                declare -A LONGSEQ_VALUE=([LOAD]= [MODEL_SIZE_KEY]=GPT125M)
            LONGSEQ_BASE_PYTHON=$(command -v python)
            source "$LONGSEQ_ROOT/ALCF/queue.sh"; source "$LONGSEQ_ROOT/ALCF/freeze.sh"
            longseq_print_settings"""
        env = {name: value for name, value in env.items() if name != "PYTHONPATH"}
        text = bash(script, **env).stdout
        for value in ("hunter2", "p/w", "hf_abc", "export WANDB_COOKIE", "export HF_PWD"):
            assert value not in text
        for name in PLAIN.keys() - {"PYTHONPATH"}:
            assert f"\nexport {name}=" in text
        assert "# left out, as they may be secret: " in text


def test_a_jobs_host_keeps_only_what_is_its_own(bash: Bash) -> None:
    """What settings.sh does not set is as it was at submission: not set."""
    script = """source "$LONGSEQ_ROOT/ALCF/freeze.sh"; longseq_unfreeze
        echo "${NCCL_NET-} ${http_proxy-} ${CUDA_VISIBLE_DEVICES-} ${HOME-} ${PBS_JOBID-}" """
    env = {"NCCL_NET": "theirs", "http_proxy": "theirs", "CUDA_VISIBLE_DEVICES": "2", "HOME": "/h"}
    assert bash(script, **env, PBS_JOBID="7").stdout.split() == ["2", "/h", "7"]


def test_misspelling_is_no_matter_of_a_jobs_host(bash: Bash) -> None:
    """Its prologue may export NNODES; submission has asked, and the job has waited for hours."""
    assert bash("longseq_check_names", NNODES="2").returncode == 2
    assert bash("longseq_check_names", NNODES="2", LONGSEQ_JOB="/jobs/x").returncode == 0


def test_what_submit_alone_obeys_is_said_where_nothing_is_submitted(tree: Tree) -> None:
    env = {"QUEUE": "debug", "PROJECT": "genes", "GPU_TYPE": "a100", "SUBMIT_ARGS": "--hold"}
    env |= {"FILESYSTEMS": "home", "SITE_LIMITS": "0", "DRY_RUN": "1"}
    note = "longseq: note: nothing is submitted here, so what only ./ALCF/submit.sh obeys does not"
    result = tree.launch(**env)
    said = [line for line in result.stderr.splitlines() if line.startswith("longseq: ")]
    names = "SITE_LIMITS, SUBMIT_ARGS, GPU_TYPE, QUEUE, PROJECT, FILESYSTEMS"
    assert (result.returncode, said) == (0, [f"{note} act: {names}"])
    assert "longseq: " not in tree.launch(DRY_RUN="1", WALLTIME="1:00:00").stderr
    assert "longseq: " not in tree.launch(**env, LONGSEQ_JOB="/jobs/x").stderr


# ---------------------------------------------------------------- the list for people


def test_docs_are_current() -> None:
    command = [str(ROOT / "ALCF/train-gpt3.sh"), "--list-variables"]
    printed = subprocess.run(
        command, env=clean_env(ROOT, {}), capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs/variables.md").read_text() == printed


def on_a_terminal(home: Path, columns: int, word: str) -> list[str]:
    """The lines that ALCF/train-gpt3.sh prints for `word` on one of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [str(ROOT / "ALCF/train-gpt3.sh"), word],
        env=clean_env(home, {"TERM": "xterm"}),
        stdout=theirs,
        stdin=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how the end of a terminal is told
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait(30) == 0
    return text.decode().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_lists_and_help_on_a_terminal_are_no_wider_than_it(tmp_path: Path, columns: int) -> None:
    lines = on_a_terminal(tmp_path, columns, "--list-variables")
    assert max(map(len, lines)) <= columns
    assert "ATTENTION" in lines
    assert any(line.startswith("SEQ_LEN (tokens") for line in lines)
    assert not any(re.match(r"[a-z]+ ", line) for line in lines)  # what is wrapped is set back
    assert "|" not in "".join(lines)
    help_lines = on_a_terminal(tmp_path, columns, "--help")
    assert max(map(len, help_lines)) <= columns
    words = " ".join(help_lines).split()
    text = (ROOT / "ALCF/train-gpt3.sh").read_text().split("\nset -euo")[0]
    assert words == text.replace("#", "").split()[2:]
