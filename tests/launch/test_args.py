"""Environment → argument list: every variable acts, and what cannot act is refused in one line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from longseq.config.checks import parse_config
from longseq.config.network import Network, training_command
from longseq.errors import UserError
from tests.launch.shell import ARGS_SCRIPT, Result, options, variable_table

Arguments = Callable[..., list[str]]
Refusal = Callable[..., str]

CPU_DEFAULTS = {
    "--num-layers": "4",
    "--hidden-size": "256",
    "--num-attention-heads": "8",
    "--tensor-model-parallel-size": "2",
    "--ds-sequence-parallel-size": "1",
    "--context-parallel-size": "1",
    "--sequence-parallel": "",
    "--use-rotary-position-embeddings": "",
    "--use-flash-attn-best": "",
    "--micro-batch-size": "2",
    "--global-batch-size": "2",
    "--zero-stage": "0",
    "--seed": "1234",
    "--device": "cpu",
    "--lr-decay-style": "cosine",
    "--weight-decay": "0.01",
    "--clip-grad": "1.0",
    "--split": "949,50,1",
}

GPU_DEFAULTS = {
    "--num-layers": "40",
    "--hidden-size": "5120",
    "--num-attention-heads": "64",
    "--seq-length": "2048",
    "--max-position-embeddings": "2048",
    "--tensor-model-parallel-size": "8",
    "--sequence-parallel": "",
    "--bf16": "",
    "--train-iters": "320000",
    "--lr": "1.5e-4",
    "--min-lr": "1e-5",
    "--lr-warmup-fraction": "0.01",
    "--save-interval": "1000",
    "--eval-interval": "1000",
    "--device": "cuda",
    "--global-batch-size": "1",
}

# Variables → the flags they make on two CPU ranks; None: the flag must be absent
ACTS: list[tuple[dict[str, str], dict[str, str | None]]] = [
    ({"MODEL_SIZE_KEY": "GPT125M"}, {"--num-layers": "12", "--hidden-size": "768"}),
    ({"MODEL_SIZE_KEY": "GPT145B_24L"}, {"--num-layers": "24", "--hidden-size": "12288"}),
    ({"SEQ_LEN": "128000"}, {"--seq-length": "128000", "--max-position-embeddings": "128000"}),
    ({"SEQ_LEN": "128k"}, {"--seq-length": "131072"}),
    ({"SEQ_LEN": "2K"}, {"--seq-length": "2048"}),
    ({"SEQ_LEN": "1m"}, {"--seq-length": "1048576"}),
    ({"SEQ_LEN": ""}, {"--seq-length": "512"}),
    ({"USE_ROTARY": "0"}, {"--use-rotary-position-embeddings": None}),
    ({"MICRO_BATCH": "3"}, {"--micro-batch-size": "3", "--global-batch-size": "3"}),
    ({"GAS": "4"}, {"--global-batch-size": "8"}),
    ({"GRADIENT_ACCUMULATION_STEPS": "4"}, {"--global-batch-size": "8"}),
    ({"GLOBAL_BATCH": "6"}, {"--global-batch-size": "6"}),
    ({"GLOBAL_BATCH_SIZE": "6"}, {"--global-batch-size": "6"}),
    ({"GAS": "4", "GRADIENT_ACCUMULATION_STEPS": "4"}, {"--global-batch-size": "8"}),
    ({"MPSIZE": "1", "GAS": "2", "MICRO_BATCH": "3"}, {"--global-batch-size": "12"}),
    ({"MPSIZE": "1"}, {"--tensor-model-parallel-size": "1", "--sequence-parallel": None}),
    ({"NGPUS": "8", "MPSIZE": "2"}, {"--global-batch-size": "8"}),
    ({"NGPUS": "8"}, {"--tensor-model-parallel-size": "8"}),
    ({"NGPU_PER_HOST": "4"}, {"--tensor-model-parallel-size": "4"}),
    ({"NGPUS": "4", "NGPU_PER_HOST": "4", "NHOSTS": "1"}, {"--tensor-model-parallel-size": "4"}),
    ({"SP_TYPE": "ds"}, {"--ds-sequence-parallel-size": "2", "--tensor-model-parallel-size": "1"}),
    ({"SP_TYPE": "ds"}, {"--zero-stage": "3", "--sequence-parallel": None}),
    ({"SP_TYPE": "ds", "ZERO_STAGE": "1"}, {"--zero-stage": "1"}),
    ({"SP_TYPE": "ring"}, {"--context-parallel-size": "2", "--zero-stage": "0"}),
    (
        {"SP_TYPE": "ring", "NGPUS": "8", "SPSIZE": "2"},
        {"--context-parallel-size": "4", "--ds-sequence-parallel-size": "2"},
    ),
    ({"RINGSIZE": "2"}, {"--context-parallel-size": "2", "--tensor-model-parallel-size": "1"}),
    ({"PPSIZE": "1"}, {"--pipeline-model-parallel-size": None}),
    (
        {"PPSIZE": "2", "TRAINER": "megatron-deepspeed", "NGPUS": "4"}
        | {"MEGATRON_DEEPSPEED_DIR": "/x"},
        {"--pipeline-model-parallel-size": "2", "--tensor-model-parallel-size": "2"},
    ),
    ({"TRAINER": "longseq"}, {"--trainer": None, "--megatron-deepspeed-dir": None}),
    (
        {"TRAINER": "megatron-deepspeed", "MEGATRON_DEEPSPEED_DIR": "/a b"},
        {"--trainer": "megatron-deepspeed", "--megatron-deepspeed-dir": "/a b"},
    ),
    ({"UPSTREAM_FIXES": "0"}, {"--as-shipped": ""}),
    ({"UPSTREAM_FIXES": "1"}, {"--as-shipped": None}),
    ({"USE_SEQUENCE_PARALLEL": "0"}, {"--sequence-parallel": None}),
    ({"USE_SEQUENCE_PARALLEL": "1", "SP_TYPE": "ds"}, {"--sequence-parallel": ""}),
    ({"USE_FLASH_ATTN": "0"}, {"--use-flash-attn-best": None}),
    ({"USE_FLASH_ATTN": "1"}, {"--use-flash-attn-best": ""}),
    ({"USE_FLASH_ATTN": ""}, {"--use-flash-attn-best": ""}),
    ({"USE_FLASH_ATTN": "v1"}, {"--use-flash-attn-v1": "", "--use-flash-attn-best": None}),
    ({"USE_FLASH_ATTN": "v2"}, {"--use-flash-attn-v2": ""}),
    ({"USE_FLASH_ATTN": "v3"}, {"--use-flash-attn-v3": ""}),
    ({"USE_FLASH_ATTN": "v4"}, {"--use-flash-attn-v4": ""}),
    ({"USE_FLASH_ATTN": "triton"}, {"--use-flash-attn-triton": ""}),
    ({"COMPILE": "off"}, {"--compile": "off"}),
    ({"USE_FLASH_ATTN": "sdpa"}, {"--use-flash-attn-sdpa": ""}),
    ({"USE_FLASH_ATTN1": "1"}, {"--use-flash-attn-v1": ""}),
    ({"USE_FLASH_ATTN2": "1"}, {"--use-flash-attn-v2": ""}),
    ({"USE_FLASH_ATTN_V1": "1"}, {"--use-flash-attn-v1": ""}),
    ({"USE_FLASH_ATTN_V2": "1"}, {"--use-flash-attn-v2": ""}),
    ({"USE_FLASH_ATTN_V3": "1"}, {"--use-flash-attn-v3": ""}),
    ({"USE_FLASH_ATTN_TRITON": "1"}, {"--use-flash-attn-triton": ""}),
    ({"USE_FLASH_ATTN_V2": "0"}, {"--use-flash-attn-v2": None, "--use-flash-attn-best": ""}),
    ({"USE_FLASH_ATTN_V2": ""}, {"--use-flash-attn-v2": None}),
    ({"USE_FLASH_ATTN2": "1", "USE_FLASH_ATTN_V2": "1"}, {"--use-flash-attn-v2": ""}),
    ({"USE_FLASH_ATTN": "1", "USE_FLASH_ATTN_V2": "1"}, {"--use-flash-attn-v2": ""}),
    ({"USE_ACTIVATION_CHECKPOINTING": "0"}, {"--recompute-granularity": "none"}),
    ({"USE_ACTIVATION_CHECKPOINTING": "1"}, {"--checkpoint-activations": ""}),
    ({"ZERO_STAGE": "1"}, {"--zero-stage": "1"}),
    ({"OFFLOAD_DEVICE": "cpu"}, {"--cpu-optimizer": ""}),
    ({"OFFLOAD_DEVICE": "none"}, {"--cpu-optimizer": None, "--nvme-optimizer": None}),
    (
        {"OFFLOAD_DEVICE": "nvme", "NVME_PATH": "/a b"},
        {"--nvme-optimizer": "", "--cpu-optimizer": None, "--nvme-path": "/a b"},
    ),
    ({"OFFLOAD_PARAM": "cpu"}, {"--remote-device": "cpu", "--nvme-path": None}),
    ({"OFFLOAD_PARAM": "none"}, {"--remote-device": None}),
    ({"DS_CONFIG": "it's.json"}, {"--deepspeed-overrides": "it's.json"}),
    ({"DDP_IMPL": "local"}, {}),
    ({"DTYPE": "fp32"}, {"--bf16": None, "--fp16": None}),
    ({"DTYPE": "bf16"}, {"--bf16": ""}),
    ({"DTYPE": "fp16"}, {"--fp16": ""}),
    ({"TRAIN_ITERS": "7"}, {"--train-iters": "7"}),
    ({"LR": "2e-4", "MIN_LR": ".00001"}, {"--lr": "2e-4", "--min-lr": ".00001"}),
    ({"LR": "1e-4"}, {"--min-lr": "5e-5"}),
    ({"LR": "1e-5"}, {"--lr": "1e-5", "--min-lr": "1e-06"}),
    ({"LR": ".00003"}, {"--min-lr": "3e-06"}),
    ({"LR": "1e-5", "MIN_LR": "1e-4"}, {"--min-lr": "1e-4"}),
    ({"LR_WARMUP_FRACTION": "0.25"}, {"--lr-warmup-fraction": "0.25"}),
    ({"SEED": "0"}, {"--seed": "0"}),
    (
        {"EVAL_INTERVAL": "5", "SAVE_INTERVAL": "6"},
        {"--eval-interval": "5", "--save-interval": "6"},
    ),
    ({"LOAD": "/no/such"}, {"--load": "/no/such"}),
    ({"RESUME": "/no/such"}, {"--load": "/no/such"}),
    ({"WB_PROJECT": "genes"}, {"--wandb-project": "genes"}),
    ({"WANDB_PROJECT": "genes"}, {"--wandb-project": "genes"}),
    ({"WANDB_MODE": "offline"}, {}),
    ({"DRY_RUN": "1"}, {}),
    ({"PLAN": "1"}, {}),
    ({"PROFILE": "1"}, {"--profile": ""}),
    ({"MACHINE": "workstation"}, {}),
    ({"PYTHON": "/usr/bin/python3"}, {}),
    ({"DATA_PATH": "/data/x"}, {"--data-path": "/data/x"}),
    ({"OUTPUT_DIR": "/out"}, {}),
]

# Variables → words that the refusal must hold
REFUSED: list[tuple[dict[str, str], list[str]]] = [
    ({"MODEL_SIZE_KEY": "GPT26B"}, ["GPT26B", "did you mean GPT25B?"]),
    ({"MODEL_SIZE_KEY": "gpt13b"}, ["did you mean GPT13B?"]),
    ({"MODEL_SIZE_KEY": "BERT1.2B"}, ["encoder"]),
    ({"MODEL_SIZE_KEY": "GPT145B_3L"}, ["GPT145B_3L"]),
    ({"MODEL_SIZE_KEY": "GPT13B_4L"}, ["GPT13B_4L"]),
    ({"MODEL_SIZE_KEY": "x; touch PWN"}, ["not known"]),
    ({"SEQ_LEN": "128kb"}, ["SEQ_LEN=128kb", "128k"]),
    ({"SEQ_LEN": "0"}, ["SEQ_LEN=0"]),
    ({"SEQ_LEN": "k"}, ["SEQ_LEN=k"]),
    ({"SEQ_LEN": "1.5k"}, ["SEQ_LEN=1.5k"]),
    ({"SEQ_LEN": "-5"}, ["SEQ_LEN=-5"]),
    ({"SEQ_LEN": "99999999999999999999"}, ["SEQ_LEN"]),
    ({"MICRO_BATCH": "0"}, ["MICRO_BATCH=0", "whole number from 1"]),
    ({"MICRO_BATCH": "08"}, ["MICRO_BATCH=08"]),
    ({"MICRO_BATCH": "a[$(touch PWN)]"}, ["MICRO_BATCH"]),
    ({"MICRO_BATCH": "2\n3"}, ["MICRO_BATCH=2?3"]),
    ({"GAS": "two"}, ["GAS=two"]),
    ({"GAS": "2", "GRADIENT_ACCUMULATION_STEPS": "3"}, ["GAS=2", "GRADIENT_ACCUMULATION_STEPS=3"]),
    ({"LOAD": "/a", "RESUME": "/b"}, ["LOAD=/a", "RESUME=/b"]),
    ({"WB_PROJECT": "a", "WANDB_PROJECT": "b"}, ["WB_PROJECT=a", "WANDB_PROJECT=b"]),
    ({"SP_TYPE": "ulysses"}, ["SP_TYPE=ulysses", "megatron ds ring"]),
    ({"SP_TYPE": "megatron ds"}, ["SP_TYPE=megatron ds"]),
    ({"MPSIZE": "3"}, ["MPSIZE 3", "2 ranks"]),
    ({"NGPUS": "6", "MPSIZE": "4"}, ["6 ranks", "multiple"]),
    ({"NGPUS": "0"}, ["NGPUS=0"]),
    ({"NGPUS": "4", "NGPU_PER_HOST": "2"}, ["NGPUS=4", "1 x 2"]),
    ({"NHOSTS": "2"}, ["NHOSTS=2"]),
    ({"NGPUS": "100000"}, ["100000 ranks a host", "NGPUS", "64 a core"]),
    ({"PPSIZE": "2"}, ["PPSIZE=2", "pipeline"]),
    ({"DDP_IMPL": "FSDP"}, ["DDP_IMPL=FSDP", "ZERO_STAGE=3"]),
    ({"DDP_IMPL": "torch"}, ["DDP_IMPL=torch"]),
    ({"USE_FLASH_ATTN": "v5"}, ["USE_FLASH_ATTN=v5"]),
    ({"USE_FLASH_ATTN_V2": "2"}, ["USE_FLASH_ATTN_V2=2"]),
    ({"USE_FLASH_ATTN": "0", "USE_FLASH_ATTN2": "1"}, ["USE_FLASH_ATTN=0", "USE_FLASH_ATTN2=1"]),
    ({"USE_FLASH_ATTN_V1": "1", "USE_FLASH_ATTN_V2": "1"}, ["V1=1", "V2=1"]),
    ({"USE_FLASH_ATTN": "triton", "USE_FLASH_ATTN1": "1"}, ["triton", "ATTN1=1"]),
    ({"USE_ACTIVATION_CHECKPOINTING": "2"}, ["USE_ACTIVATION_CHECKPOINTING=2"]),
    ({"ZERO_STAGE": "4"}, ["ZERO_STAGE=4", "0 1 2 3"]),
    ({"OFFLOAD_DEVICE": "gpu"}, ["OFFLOAD_DEVICE=gpu", "none cpu nvme"]),
    ({"OFFLOAD_PARAM": "disk"}, ["OFFLOAD_PARAM=disk"]),
    ({"DTYPE": "float16"}, ["DTYPE=float16", "fp16"]),
    ({"LR": "fast"}, ["LR=fast"]),
    ({"LR": "1e"}, ["LR=1e"]),
    ({"SEED": "-1"}, ["SEED=-1"]),
    ({"VOCAB_FILE": "/v"}, ["VOCAB_FILE=/v", "DATA_PATH"]),
    ({"MERGE_FILE": "/v"}, ["MERGE_FILE=/v"]),
    ({"WANDB_MODE": "on"}, ["WANDB_MODE=on"]),
    ({"DRY_RUN": "maybe"}, ["DRY_RUN=maybe"]),
    ({"OMP_NUM_THREADS": "-1"}, ["OMP_NUM_THREADS=-1", "whole number from 1"]),
    ({"MASTER_PORT": "abc"}, ["MASTER_PORT=abc", "1 to 65535"]),
    ({"MASTER_PORT": "65536"}, ["MASTER_PORT=65536", "1 to 65535"]),
    ({"MASTER_ADDR": "a b"}, ["MASTER_ADDR=a b", "name of a host"]),
    ({"DATA_PATH": "https://me:hunter2@x/y.fa"}, ["DATA_PATH", "password"]),
]

MISSPELT = {
    "SEQLEN": "SEQ_LEN",
    "SEQ_LENGTH": "SEQ_LEN",
    "seq_len": "SEQ_LEN",
    "SEQUENCE_LENGTH": "SEQ_LEN",
    "MICRO_BATCH_SIZE": "MICRO_BATCH",
    "MICROBATCH": "MICRO_BATCH",
    "MODEL_SIZE": "MODEL_SIZE_KEY",
    "MODEL_SIZE_KEYS": "MODEL_SIZE_KEY",
    "ZERO_STAG": "ZERO_STAGE",
    "ZEROSTAGE": "ZERO_STAGE",
    "USE_FLASH_ATTENTION": "USE_FLASH_ATTN",
    "USE_FLASH_ATTN_V4": "USE_FLASH_ATTN",
    "USE_ACTIVATION_CHECKPOINT": "USE_ACTIVATION_CHECKPOINTING",
    "USE_SEQ_PARALLEL": "USE_SEQUENCE_PARALLEL",
    "GRADIENT_ACCUMULATION": "GAS",
    "GLOBALBATCH": "GLOBAL_BATCH",
    "OFFLOAD_DEVCIE": "OFFLOAD_DEVICE",
    "DATAPATH": "DATA_PATH",
    "DATA_PAHT": "DATA_PATH",
    "OUTPUT_DIRS": "OUTPUT_DIR",
    "TRAIN_ITER": "TRAIN_ITERS",
    "EVAL_INTERVALL": "EVAL_INTERVAL",
    "SAVE_INTREVAL": "SAVE_INTERVAL",
    "LEARNING_RATE": "LR",
    "MP_SIZE": "MPSIZE",
    "NGPUS_PER_HOST": "NGPU_PER_HOST",
    "NGPU": "NGPUS",
    "DRYRUN": "DRY_RUN",
    "HOST_FILE": "HOSTFILE",
    # Likely names: other programs' for the same, which acted as nothing
    "BATCH_SIZE": "MICRO_BATCH",
    **dict.fromkeys(
        ("NUM_LAYERS", "NLAYERS", "N_LAYER", "HIDDEN", "N_EMBD", "NHEADS", "HEADS", "ATEN_HEADS"),
        "MODEL_SIZE_KEY, or --num-layers, --hidden-size, --num-attention-heads after --",
    ),
    "NUM_KV_HEAD": "--num-key-value-heads after --",
    "FFN_HIDDEN_SIZE": "--ffn-hidden-size after --",
    "NUM_GPUS": "NGPUS",
    "NNODES": "NHOSTS",
    "TP": "MPSIZE",
    "MAX_STEPS": "TRAIN_ITERS",
    "EPOCHS": "TRAIN_ITERS",
    "MODEL": "MODEL_SIZE_KEY",
    "DATA": "DATA_PATH",
    "DATASET": "DATA_PATH",
    "OUTDIR": "OUTPUT_DIR",
    "SEEDS": "SEED",
    "WARMUP_STEPS": "LR_WARMUP_FRACTION",
    # Short names: a letter more, a letter less, two neighbours swapped
    "LAOD": "LOAD",
    "LOADS": "LOAD",
    "LOD": "LOAD",
    "PLANS": "PLAN",
    "SEDE": "SEED",
    "QUEU": "QUEUE",
    "DTYPES": "DTYPE",
    # … and likely ones
    "LOAD_PATH": "LOAD",
    "LOAD_FROM": "LOAD",
    "BF16": "DTYPE",
    "FP16": "DTYPE",
    "USE_BF16": "DTYPE",
    "LRATE": "LR",
    "PEAK_LR": "LR",
    "EVAL_ITERS": "--eval-iters after --",
    "GSA": "GAS",
    "SEQ": "SEQ_LEN",
    "RANDOMSEED": "SEED",
    "DS_CONF": "DS_CONFIG",
    "USE_WANDB": "WANDB_MODE",
}

# What shells, schedulers, modules, compilers and libraries export; none of it is ours
COMMON = Path(__file__).with_name("common_variables.txt").read_text().split()


@pytest.mark.parametrize(
    ("device", "devices", "expected"), [("cpu", 2, CPU_DEFAULTS), ("cuda", 8, GPU_DEFAULTS)]
)
def test_defaults(
    arguments: Arguments, device: str, devices: int, expected: dict[str, str]
) -> None:
    found = options(arguments(device=device, devices=devices))
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(("env", "expected"), ACTS, ids=[str(env) for env, _ in ACTS])
def test_variable_acts(arguments: Arguments, env: dict[str, str], expected: dict[str, str]) -> None:
    found = options(arguments(**env))
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(("env", "words"), REFUSED, ids=[str(env) for env, _ in REFUSED])
def test_refused(refusal: Refusal, env: dict[str, str], words: list[str]) -> None:
    line = refusal(**env)
    assert [word for word in words if word not in line] == []


def test_every_variable_is_tested() -> None:
    """A variable in the table is one that a test above sets."""
    tested = {name for env, _ in [*ACTS, *REFUSED] for name in env}
    elsewhere = {"HOSTFILE", "SPARE_NODES", "DS_ACCELERATOR"}  # test_hosts.py
    elsewhere |= {"PREFLIGHT", "PREFLIGHT_SECONDS", "LEAST_BANDWIDTH"}  # test_doctor.py
    elsewhere |= {"GPU_TYPE"}  # test_submit.py
    elsewhere |= {"RESTARTS", "IDLE_TIMEOUT", "BROADCAST"}  # test_again.py, test_idle.py
    elsewhere |= {"SITE_MODULES", "SITE_NCCL"}  # test_machines.py
    elsewhere |= {"SUBMIT_ARGS", "LAUNCH_ARGS"}  # test_submit.py, test_machines.py
    elsewhere |= {"WANDB_API_KEY", "LONGSEQ_CACHE"}  # test_variables.py, tests/unit/data
    elsewhere |= {"SITE_LIMITS", "QUEUE", "WALLTIME", "PROJECT", "FILESYSTEMS"}  # test_submit.py
    assert set(variable_table()) - tested == elsewhere


def test_the_predecessors_variables_are_all_known() -> None:
    theirs = """
        MODEL_SIZE_KEY SEQ_LEN MICRO_BATCH GAS GRADIENT_ACCUMULATION_STEPS SP_TYPE MPSIZE SPSIZE
        PPSIZE ZERO_STAGE USE_SEQUENCE_PARALLEL USE_FLASH_ATTN USE_FLASH_ATTN1 USE_FLASH_ATTN2
        USE_FLASH_ATTN_V1 USE_FLASH_ATTN_V2 USE_FLASH_ATTN_TRITON USE_ACTIVATION_CHECKPOINTING
        OFFLOAD_DEVICE DDP_IMPL DATA_PATH VOCAB_FILE MERGE_FILE WB_PROJECT HOSTFILE NHOSTS
        NGPU_PER_HOST NGPUS
    """.split()
    assert set(theirs) <= set(variable_table())


@pytest.mark.parametrize(("written", "meant"), MISSPELT.items())
def test_misspelt_variable_is_caught(refusal: Refusal, written: str, meant: str) -> None:
    line = refusal(**{written: "1"})
    assert f"{written}=1 is not a variable of ours; did you mean {meant}?" in line


@pytest.mark.parametrize("split", ["949,50,1", "800,100,100", "0.9,.1", "1,0,0"])
def test_a_split_of_megatrons_is_caught(refusal: Refusal, split: str) -> None:
    """By its value: another program may have a variable of this name."""
    line = refusal(SPLIT=split)
    assert f"SPLIT={split} is not a variable of ours; did you mean --split after --?" in line


def test_a_split_of_others_is_left_alone(arguments: Arguments) -> None:
    for split in ("", "1", "train", "train,valid", "/bin/split", ",", "1,", "9,5,x", "a\n9,5"):
        arguments(SPLIT=split)


def test_common_variables_are_left_alone(arguments: Arguments) -> None:
    keep = {"HOME", "PATH", "CONDA_PREFIX", "BASH_ENV", "ENV", "LD_LIBRARY_PATH", "LC_ALL", "SHLVL"}
    arguments(**{name: "1" for name in COMMON if name not in keep})


def test_the_tests_own_environment_raises_no_alarm(bash: Callable[..., Result]) -> None:
    ours = set(variable_table())
    env = {k: v for k, v in os.environ.items() if k not in ours}
    result = bash("longseq_check_names", **env)
    assert result.returncode == 0, result.stderr


def test_extra_arguments_come_last_and_as_they_are(arguments: Arguments) -> None:
    extra = ["--num-layers", "2", "--x", "a b", "", "$(touch PWN)", "it's", "new\nline"]
    assert arguments(*extra)[-len(extra) :] == extra


def test_a_kernel_named_behind_takes_the_place_of_the_default(
    arguments: Arguments, tmp_path: Path
) -> None:
    def kernels(*extra: str, **env: str) -> list[str]:
        return [word for word in arguments(*extra, **env) if word.startswith("--use-flash-attn")]

    assert kernels("--use-flash-attn-v2") == ["--use-flash-attn-v2"]
    assert kernels("--use-flash-attn-v2", USE_FLASH_ATTN2="0") == ["--use-flash-attn-v2"]
    run = earlier_run(tmp_path / "run", "--use-flash-attn-sdpa")
    assert kernels(LOAD=str(run)) == ["--use-flash-attn-sdpa"]
    assert kernels("--use-flash-attn-best", LOAD=str(run)) == ["--use-flash-attn-best"]
    both = ["--use-flash-attn-sdpa", "--use-flash-attn-v2"]
    for asked in ({"USE_FLASH_ATTN": "sdpa"}, {"USE_FLASH_ATTN": "1"}):
        words = arguments("--use-flash-attn-v2", **asked)
        with pytest.raises(UserError, match="exclude each other: give one, of USE_FLASH_ATTN too"):
            parse_config(words, 2)
    assert kernels("--use-flash-attn-v2", USE_FLASH_ATTN="sdpa") == both


def test_a_second_double_dash_is_refused(refusal: Refusal) -> None:
    assert "second --" in refusal("--swiglu", "--", "--x")


def test_what_would_undo_how_a_run_goes_on_is_refused(
    refusal: Refusal, arguments: Arguments
) -> None:
    assert "OUTPUT_DIR" in refusal("--swiglu", "--run-dir=/tmp/x")
    assert "RESTARTS=1 cannot act, as --save is given" in refusal("--save", "/tmp/x", RESTARTS="1")
    arguments("--save", "/tmp/x", "--save-interval", "3", RESTARTS="0")
    arguments("--save-interval", "3", RESTARTS="1")


@pytest.mark.parametrize(
    "hostile",
    [
        "a b'c\"d$(touch PWN)`touch PWN`;touch PWN\\",
        "a\nb",
        "*",
        "~",
        "-n",
        "\\",
    ],
)
def test_hostile_paths_arrive_unchanged(arguments: Arguments, hostile: str) -> None:
    words = arguments(DATA_PATH=hostile, OUTPUT_DIR="/" + hostile, LOAD=hostile)
    assert words[words.index("--data-path") + 1] == hostile
    assert words[words.index("--load") + 1] == hostile
    run = words[words.index("--run-dir") + 1]
    assert run.startswith(f"/{hostile}/GPT_SMALL_tp2_s512_seed1234_")
    assert words[words.index("--deepspeed_config") + 1] == run + "/ds_config.json"
    assert words[words.index("--save") + 1] == run + "/checkpoints"


def test_load_takes_a_runs_folder(arguments: Arguments, tmp_path: object) -> None:
    folder = f"{tmp_path}/run"
    subprocess.run(["mkdir", "-p", f"{folder}/checkpoints"], check=True)
    assert options(arguments(LOAD=folder))["--load"] == f"{folder}/checkpoints"
    assert options(arguments(LOAD=f"{folder}/checkpoints"))["--load"] == f"{folder}/checkpoints"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "net",
    [
        Network(num_layers=2, hidden_size=64, num_attention_heads=4, seq_length=128),
        Network(max_position_embeddings=7000, seq_length=64),  # learned positions, all flags usual
        Network(use_rotary_position_embeddings=True, rope_theta=5000.0, swiglu=True),
    ],
)
def test_the_line_of_an_import_trains_that_network(
    arguments: Arguments, tmp_path: Path, net: Network, device: str
) -> None:
    """Whatever the launcher's defaults are; a run's folder is named by the length that it has."""
    words = shlex.split(training_command(net, str(tmp_path)))
    at = words.index("./ALCF/train-gpt3.sh")
    env = dict(word.split("=", 1) for word in words[:at])
    given = arguments(*words[at + 2 :], device=device, devices=2, **env)
    assert options(given)["--load"] == str(tmp_path)
    assert f"_s{net.seq_length}_" in options(given)["--run-dir"]
    found = parse_config(given, 2).network
    assert found == replace(net, max_position_embeddings=found.max_position_embeddings)
    assert found.positions == net.positions


def earlier_run(folder: Path, *words: str) -> Path:
    """What of a run its successor looks at."""
    (folder / "checkpoints").mkdir(parents=True)
    settings = asdict(parse_config([*words, "--data-path", "a b"], 1))
    summary = {"settings": settings, "directory": "/$(data)"}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_load_takes_over_the_settings_of_that_run(arguments: Arguments, tmp_path: Path) -> None:
    words = "--num-layers 3 --seq-length 256 --train-iters 30 --global-batch-size 8"
    words += " --lr 1e-3 --min-lr 1e-4"
    run = earlier_run(tmp_path / "run", *words.split(), "--micro-batch-size", "4", "--swiglu")
    found = options(arguments(LOAD=str(run), TRAIN_ITERS="60", LR="2e-3"))
    expected = {
        "--num-layers": "3",
        "--seq-length": "256",
        "--data-path": "/$(data)/a b",
        "--train-iters": "60",
        "--lr": "2e-3",
        "--lr-decay-iters": "30",
        "--swiglu": "",
        "--global-batch-size": "8",
    }
    assert {name: found.get(name) for name in expected} == expected
    # Eight ranks, a batch of eight: a rank has one sample, where it had four
    on_more = options(arguments(LOAD=str(run), NGPUS="8", MPSIZE="1"))
    assert (on_more["--global-batch-size"], on_more["--micro-batch-size"]) == ("8", "1")
    # Its lowest learning rate holds, unless the peak is below that now
    assert options(arguments(LOAD=str(run), LR="2e-4"))["--min-lr"] == "0.0001"
    assert options(arguments(LOAD=str(run), LR="5e-5"))["--min-lr"] == "5e-06"
    told = options(arguments("--lr-decay-iters", "60", LOAD=str(run), SEQ_LEN="1k"))
    assert (told["--lr-decay-iters"], told["--seq-length"]) == ("60", "1024")


def test_load_of_a_damaged_run_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    run = earlier_run(tmp_path / "run", "--num-layers", "2")
    (run / "summary.json").write_text("{")
    assert "does not say how that run was set" in refusal(LOAD=str(run))


@pytest.mark.parametrize("job", ["PBS_JOBID", "SLURM_JOB_ID", "COBALT_JOBID"])
def test_two_runs_never_share_a_folder(arguments: Arguments, job: str) -> None:
    runs = {options(arguments(**{job: f"{n}.polaris"}))["--run-dir"] for n in (71, 72)}
    assert len(runs) == 2
    assert any("_job71_" in run for run in runs)


def test_defaults_on_a_cpu_pass_the_trainers_own_checks(arguments: Arguments) -> None:
    config = parse_config(arguments(), world_size=2)
    assert str(config.layout) == "2 ranks = tp 2 with sequence parallel x ulysses 1 x ring 1 x dp 1"
    assert config.memory.kernel == "sdpa"
    assert config.network.rotary_size == 32


def test_global_batch_is_ranks_times_micro_times_accumulation_over_the_split(
    arguments: Arguments,
) -> None:
    words = arguments(NGPUS="8", MPSIZE="2", SPSIZE="2", MICRO_BATCH="3", GAS="5")
    config = parse_config(words, world_size=8)
    assert config.global_batch_size == 8 * 3 * 5 // 4
    assert config.accumulation == 5


@pytest.mark.parametrize(("param", "path"), [("nvme", "/d"), ("cpu", None)])
def test_offload_to_nvme_takes_the_disk_of_the_profile(
    bash: Callable[..., Result], param: str, path: str | None
) -> None:
    script = ARGS_SCRIPT.replace("longseq_count_ranks", "LONGSEQ_SCRATCH=/d; longseq_count_ranks")
    words = bash(script, "cpu", "2", OFFLOAD_PARAM=param).stdout.split("\0")[:-1]
    found = options(words)
    assert found["--remote-device"] == param
    assert found.get("--nvme-path") == path
