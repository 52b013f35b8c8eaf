"""The table of architectures: names that say the size, dimensions that split, true counts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from longseq.config.arguments import Network
from tests.launch.shell import ARGS_SCRIPT, ROOT, Result, clean_env

Bash = Callable[..., Result]

CUTS = {"GPT145B": [2, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64], "GPT1T": [1, 2, 4, 8]}
SIZES = "GPT125M GPT1_5B GPT2_7B GPT6_7B GPT13B GPT25B GPT30B GPT33B GPT145B GPT175B GPT1T".split()


def listed() -> dict[str, tuple[int, int, int, int]]:
    """What --list-models prints: key → layers, hidden, heads, parameters."""
    command = [str(ROOT / "ALCF/train-gpt3.sh"), "--list-models"]
    text = subprocess.run(
        command, env=clean_env(ROOT, {}), capture_output=True, text=True, check=True
    ).stdout
    rows = {}
    for line in text.splitlines():
        if line.startswith("GPT"):
            key, *numbers = line.split()[:5]
            layers, hidden, heads, count = (int(n.replace(",", "")) for n in numbers)
            rows[key] = (layers, hidden, heads, count)
    return rows


def size_of(key: str) -> float:
    """GPT2_7B → 2.7e9."""
    number, unit = re.fullmatch(r"GPT([0-9_]+)([MBT])", key).groups()  # type: ignore[union-attr]
    return float(number.replace("_", ".")) * {"M": 1e6, "B": 1e9, "T": 1e12}[unit]


def test_all_sizes_are_there() -> None:
    assert set(SIZES) <= set(listed())


@pytest.mark.parametrize("key", SIZES)
def test_the_name_is_the_parameter_count(key: str) -> None:
    assert listed()[key][3] == pytest.approx(size_of(key), rel=0.05)


def test_the_count_is_that_of_the_network() -> None:
    """Against the formula of config/arguments.py, itself held against the network elsewhere."""
    for key, (layers, hidden, heads, count) in listed().items():
        network = Network(
            num_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            use_rotary_position_embeddings=True,
        )
        assert network.parameter_count(50304) == count, key


def test_heads_divide_well() -> None:
    for key, (_, hidden, heads, _) in listed().items():
        assert hidden % heads == 0, key
        assert hidden // heads % 8 == 0, f"{key}: flash kernels want heads of a multiple of 8"
        assert heads % 8 == 0, f"{key}: eight ranks a host must divide the heads"


def test_columns_are_aligned() -> None:
    command = [str(ROOT / "ALCF/train-gpt3.sh"), "--list-models"]
    text = subprocess.run(
        command, env=clean_env(ROOT, {}), capture_output=True, text=True, check=True
    ).stdout
    lines = text.splitlines()
    end = lines[0].index("parameters") + len("parameters")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:-1])


@pytest.mark.parametrize(("key", "cut"), [(key, n) for key, cuts in CUTS.items() for n in cuts])
def test_layer_cuts(bash: Bash, key: str, cut: int) -> None:
    script = 'longseq_model "$1"; echo "$LONGSEQ_LAYERS $LONGSEQ_HIDDEN $LONGSEQ_HEADS"'
    _, hidden, heads, _ = listed()[key]
    assert bash(script, f"{key}_{cut}L").stdout.split() == [str(cut), str(hidden), str(heads)]


def test_published_networks_have_their_own_keys() -> None:
    rows = listed()
    assert rows["GPT25B_PUBLISHED"][:3] == (64, 6144, 64)
    assert rows["GPT33B_PUBLISHED"][:3] == (80, 6144, 64)


def test_a_name_that_meant_another_network_in_2023_says_so() -> None:
    env = clean_env(ROOT, {"DRY_RUN": "1", "MODEL_SIZE_KEY": "GPT25B"})
    command = [str(ROOT / "ALCF/train-gpt3.sh")]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    assert "GPT25B of the tables of 2023 is GPT25B_PUBLISHED" in said
    env |= {"MODEL_SIZE_KEY": "GPT30B"}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    assert "PUBLISHED" not in said


@pytest.mark.parametrize(
    ("gpus", "key"), [(1, "GPT1_5B"), (2, "GPT2_7B"), (4, "GPT6_7B"), (8, "GPT13B")]
)
def test_the_default_fits_on_gpus_of_40_gib(
    arguments: Callable[..., list[str]], gpus: int, key: str
) -> None:
    """By the plan, all else at its default; and no larger row would."""

    def peak(**env: str) -> tuple[str, str]:
        words = arguments(device="cuda", devices=gpus, **env)
        folder = words[words.index("--run-dir") + 1]
        asked = ["--gpu", "a100-40", "--gpus", str(gpus), "--vocab-size", "50304", "--json"]
        command = [sys.executable, "-m", "longseq", "plan", *asked, "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return folder.rpartition("/")[2].partition("_tp")[0], json.loads(done.stdout)["fits"]

    assert peak() == (key, "yes")
    larger = list(listed())[list(listed()).index(key) + 1]
    assert gpus == 8 or peak(MODEL_SIZE_KEY=larger) == (larger, "no")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("--swiglu", "GPT125M"),
        ("--num-layers 12", "GPT125M"),
        ("--num-layers 3 --num-layers=2 --hidden-size 64", "custom"),
        ("--num-layers=4 --hidden-size 256 --num-attention-heads 8", "GPT_SMALL"),
    ],
)
def test_a_runs_folder_names_the_network_that_it_trains(
    arguments: Callable[..., list[str]], words: str, name: str
) -> None:
    found = arguments(*words.split(), MODEL_SIZE_KEY="GPT125M")
    assert found[found.index("--run-dir") + 1].rpartition("/")[2].startswith(f"{name}_tp2_")


def test_a_run_that_is_gone_on_with_keeps_its_name(bash: Bash) -> None:
    """On fewer GPUs, too, where the default is another: by its three numbers."""
    script = 'longseq_model_of "$@" && echo "$REPLY"'
    assert bash(script, "40", "5120", "64").stdout.split() == ["GPT13B"]
    assert bash(script, "2", "64", "4").returncode == 1


KEPT = """
source "$LONGSEQ_ROOT/ALCF/queue.sh" && source "$LONGSEQ_ROOT/ALCF/freeze.sh"
LONGSEQ_SECONDS=3600 LONGSEQ_MACHINE=workstation LONGSEQ_RANKS_PER_HOST=4
for LONGSEQ_TASK in train bench; do
    longseq_print_settings | grep -o "^export MODEL_SIZE_KEY=.*" || echo none
done
longseq_settings_to_go_on 1 1
echo "${MODEL_SIZE_KEY:-none}"
LONGSEQ_RANKS=4
longseq_args "$@"
echo "$LONGSEQ_LAYERS ${LONGSEQ_NOTES[0]}"
"""


@pytest.mark.parametrize(
    ("words", "env", "key", "goes_on"),
    [
        ("", {}, "GPT13B", "40 model     GPT13B (the default on 8 GPUs; MODEL_SIZE_KEY chooses"),
        ("", {"MODEL_SIZE_KEY": "GPT125M"}, "GPT125M", "12 model     GPT125M (MODEL_SIZE_KEY)"),
        ("--num-layers 3", {}, "GPT13B", "40 model     custom (its layers, hidden size or"),
    ],
)
def test_fewer_gpus_train_the_network_that_it_began_with(
    bash: Bash, words: str, env: dict[str, str], key: str, goes_on: str
) -> None:
    """A job that is submitted and a run that goes on before its first checkpoint; not a bench."""
    args = ARGS_SCRIPT.replace("printf", ": ")
    done = bash(args + KEPT, "cuda", "8", *words.split(), **env)
    assert done.returncode == 0, done.stderr
    job, bench, again, said = done.stdout.splitlines()
    assert job == f"export MODEL_SIZE_KEY={key}"
    assert bench == (f"export MODEL_SIZE_KEY={key}" if env else "none")
    assert again == key
    assert said.startswith(goes_on)


def test_a_run_that_is_gone_on_with_says_which_network_it_is(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    args = ARGS_SCRIPT.replace("printf", ": ")
    done = bash(args + KEPT, "cuda", "8", LOAD=str(tmp_path))
    assert done.stdout.splitlines()[:3] == ["none"] * 3, done.stderr
