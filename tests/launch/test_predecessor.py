"""One test for each fault of the scripts of 2023, named after it: each fails on what they did."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Result, Tree, clean_env, options, write_script
from tests.launch.test_machines import allocation, dry_run

Bash = Callable[..., Result]
Arguments = Callable[..., list[str]]
WRITES = """
import os
open(os.path.join(os.environ["WANDB_NOTES"], "ran." + os.environ["RANK"]), "w").close()
"""


@pytest.fixture
def ready(tree: Tree) -> Tree:
    tree.environment()
    tree.trainer(WRITES)
    return tree


def test_not_every_machine_is_thetagpu(bash: Bash, tmp_path: Path) -> None:
    """`[[ "$(hostname)==theta*" ]]` is one word that is not empty: always true."""
    found = []
    for host in ("thetagpu07", "x3004c0s13b1n0", "laptop", "theta-party"):
        write_script(tmp_path / "bin/uname", f"#!/bin/sh\necho {host}\n")
        script = 'longseq_find_machine; echo "$LONGSEQ_MACHINE"'
        found.append(bash(script, PATH=f"{tmp_path}/bin:/usr/bin:/bin").stdout.strip())
    assert found == ["thetagpu", "polaris", "workstation", "workstation"]


def test_all_flags_of_the_launcher_and_the_node_file_arrive(tmp_path: Path) -> None:
    """An array that is expanded as ${X} gives its first element."""
    env = {"MACHINE": "thetagpu", **allocation("thetagpu", tmp_path)}
    words = dry_run(tmp_path, env).split("# command\n")[1].replace("\\\n", " ").split()
    launcher = words[words.index("mpirun") : words.index("/bin/sh")]
    for flag in ("-n", "-npernode", "--hostfile", "-x"):
        assert flag in launcher
    assert launcher.count("-x") > 5
    assert options(words)["--data-path"]


def test_a_folder_is_no_environment(tree: Tree) -> None:
    """`mkdir -p venv` came before `[[ -d venv ]]`, so the venv was never made."""
    venv = Path(tree.bash('longseq_setup; printf %s "$LONGSEQ_VENV"').stdout)
    (venv / "bin").mkdir(parents=True)
    write_script(tree.root / "install.sh", "#!/bin/sh\nexit 9\n")
    assert tree.launch().returncode == 9  # the installation was called for


def test_the_environment_is_where_it_was_made(tree: Tree) -> None:
    """setup.sh looked in another place, and the run went on with the system's Python."""
    said = tree.bash('"$LONGSEQ_ROOT/install.sh" --dry-run').stdout
    venv = tree.bash('longseq_setup; printf %s "$LONGSEQ_VENV"').stdout
    assert f"environment  {venv}\n" in said
    python = tree.bash('longseq_setup; printf %s "$LONGSEQ_PYTHON"').stdout
    assert python.startswith(f"{venv}/")


def test_a_failure_ends_the_run(tree: Tree) -> None:
    """There was no `set -e`: failures cascaded, down to ranks that could not run."""
    write_script(tree.root / "install.sh", "#!/bin/sh\nexit 9\n")
    tree.trainer(WRITES)
    assert tree.launch(WANDB_NOTES=str(tree.home)).returncode == 9
    assert not list(tree.home.glob("ran.*"))
    for script in (ROOT / "ALCF").glob("*.sh"):
        text = script.read_text()
        if text.startswith("#!/usr/bin/env bash"):
            assert "\nset -euo pipefail\n" in text, script


def test_flash_attention_is_what_was_asked_for(arguments: Arguments) -> None:
    """USE_FLASH_ATTN=1 had no effect, and USE_FLASH_ATTN_V2=0 turned v2 on."""
    on, off = arguments(USE_FLASH_ATTN="1"), arguments(USE_FLASH_ATTN="0")
    assert any(word.startswith("--use-flash-attn") for word in on)
    assert not any(word.startswith("--use-flash-attn") for word in off)
    assert "--use-flash-attn-v2" not in arguments(USE_FLASH_ATTN_V2="0")
    assert "--use-flash-attn-v2" in arguments(USE_FLASH_ATTN_V2="1")


def test_a_run_can_be_repeated(arguments: Arguments) -> None:
    """`--seed ${RANDOM}`."""
    seeds = {options(arguments())["--seed"] for _ in range(3)}
    assert seeds == {"1234"}


def config(tmp_path: Path, **env: str) -> dict[str, object]:
    text = dry_run(tmp_path, {"MACHINE": "workstation", "MODEL_SIZE_KEY": "GPT_SMALL", **env})
    found: dict[str, object] = json.loads(
        text.split("# ds_config.json\n")[1].split("# command\n")[0]
    )
    return found


def test_offload_is_off_and_names_no_machines_disk(tmp_path: Path) -> None:
    """Every DeepSpeed config had it, with one machine's scratch path."""
    for stage in "0123":
        text = json.dumps(config(tmp_path, ZERO_STAGE=stage))
        assert "offload" not in text
        assert "scratch" not in text
    assert "cpu" in json.dumps(config(tmp_path, ZERO_STAGE="1", OFFLOAD_DEVICE="cpu"))


def test_the_learning_rate_does_not_depend_on_the_zero_stage(
    arguments: Arguments, tmp_path: Path
) -> None:
    """A WarmupLR scheduler (1e-3) stood beside --lr 1.5e-4, for some stages only."""
    rates = set()
    for stage in "0123":
        assert "scheduler" not in config(tmp_path, ZERO_STAGE=stage)
        words = options(arguments(ZERO_STAGE=stage))
        rates.add((words["--lr"], words["--min-lr"], words["--lr-decay-style"]))
    assert len(rates) == 1


def test_a_run_trains_saves_and_goes_on(arguments: Arguments) -> None:
    """`--train-iters 10`, no --save, no --load."""
    words = options(arguments(TRAIN_ITERS="77", LOAD="/somewhere", device="cuda", devices=4))
    assert words["--train-iters"] == "77"
    assert words["--load"] == "/somewhere"
    assert words["--save"]
    assert int(options(arguments(device="cuda", devices=4))["--train-iters"]) > 1000


def test_what_the_user_sets_is_kept_or_refused(
    arguments: Arguments, refusal: Callable[..., str]
) -> None:
    """DDP_IMPL, USE_ACTIVATION_CHECKPOINTING and SPSIZE were overwritten in silence."""
    assert "DDP_IMPL=FSDP" in refusal(DDP_IMPL="FSDP")
    assert "--checkpoint-activations" not in arguments(USE_ACTIVATION_CHECKPOINTING="0")
    assert options(arguments(SPSIZE="2"))["--ds-sequence-parallel-size"] == "2"


def test_a_login_node_has_no_world_of_zero(tmp_path: Path) -> None:
    """No GPU is seen there: the world size was 0, and something was divided by it."""
    words = ("-q", "debug-scaling", "-n", "8", "-A", "genes")
    text = dry_run(tmp_path, {"MACHINE": "polaris"}, "submit.sh", *words)
    assert "32 ranks on 8 hosts" in text


def test_an_unknown_model_is_refused(refusal: Callable[..., str]) -> None:
    """It made an empty --num-layers."""
    assert "MODEL_SIZE_KEY=GPT26B is not known; did you mean GPT2" in refusal(
        MODEL_SIZE_KEY="GPT26B"
    )


def test_models_have_the_size_of_their_names() -> None:
    """ "25B" and "30B" were one network of 29.0B; "33B" had 36.2B."""
    command = [str(ROOT / "ALCF/train-gpt3.sh"), "--list-models"]
    text = subprocess.run(
        command, env=clean_env(ROOT, {}), capture_output=True, text=True, check=True
    ).stdout
    for key, billions in (("GPT25B", 25), ("GPT30B", 30), ("GPT33B", 33)):
        match = re.search(rf"^{key} .*?([\d,]{{9,}})", text, re.MULTILINE)
        assert match is not None
        assert int(match[1].replace(",", "")) == pytest.approx(billions * 1e9, rel=0.05)


def test_the_script_waits_and_hands_on_the_exit_code(ready: Tree) -> None:
    """The last line ran in the background: PBS killed the job, and the code was lost."""
    ready.trainer(f"import time\ntime.sleep(1)\n{WRITES}\nraise SystemExit(7)\n")
    began = time.monotonic()
    result = ready.launch(WANDB_NOTES=str(ready.home))
    assert result.returncode == 7
    assert time.monotonic() - began >= 1
    assert len(list(ready.home.glob("ran.*"))) == 2


def test_modules_are_loaded_once(tree: Tree, tmp_path: Path) -> None:
    """setup was sourced four times, and loaded the modules as often."""
    loaded = tmp_path / "loaded"
    init = f'module() {{ echo "$*" >>"{loaded}"; }}\nconda() {{ :; }}\n'
    (tmp_path / "modules/init").mkdir(parents=True)
    (tmp_path / "modules/init/bash").write_text(init)
    nodes = tmp_path / "nodes"
    nodes.write_text("a\nb\n")
    env = {"MACHINE": "polaris", "PBS_NODEFILE": str(nodes), "DRY_RUN": "1"}
    result = tree.launch(MODULESHOME=str(tmp_path / "modules"), **env)
    assert result.returncode == 0, result.stderr
    assert loaded.read_text().splitlines() == ["use /soft/modulefiles", "load conda"]
