"""Our configuration → its argument list: nothing is lost. tests/launch has what its parser says."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.config import megatron
from longseq.config.arguments import GROUPS
from longseq.config.checks import parse_config
from longseq.config.flags import flags_of
from longseq.errors import UserError
from longseq.run.safety.stopping import Stopper
from longseq.run.safety.watch import Watch
from longseq.upstream import start
from longseq.upstream.arguments import upstream_arguments, upstream_settings
from tests.upstream_checkout import upstream_checkout

THEIRS = ["--trainer", "megatron-deepspeed", "--device", "cpu"]
# What its words do not say, as it is ours to do around it
AROUND = set(
    "trainer megatron_deepspeed_dir as_shipped run_dir log_interval hang_timeout tensorboard_dir"
    " wandb_project data_path tokenizer_type split split_seed valid_records test_records"
    " reverse_complement_prob deepspeed_overrides deepspeed_config device load"
    " use_flash_attn_best use_flash_attn_sdpa".split()
)
# Values that act, where a flag's double or opposite is none
ACT = {
    "recompute_granularity": "full",
    "recompute_method": "block",
    "optimizer": "sgd",
    "on_spike": "skip",
    "lr_decay_style": "linear",
    "normalization": "rmsnorm",
    "remote_device": "cpu",
    "ffn_hidden_size": 512,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "save": "folder",
    "rotary_percent": 0.5,
    "rope_theta": 500000.0,
    "attention_dropout": 0.1,
    "hidden_dropout": 0.1,
    "use_rotary_position_embeddings": False,
    "lr_warmup_fraction": 0.5,
}


def changed(config: Any, field: str, value: Any) -> Any:
    for group in dataclasses.fields(config):
        part = getattr(config, group.name)
        if hasattr(part, field):
            part = dataclasses.replace(part, **{field: value})
            return dataclasses.replace(config, **{group.name: part})
    raise AssertionError(field)


def words(config: Any) -> list[str]:
    try:
        settings = json.dumps(upstream_settings(config))
        return [*upstream_arguments(config, 16), settings]
    except UserError as error:
        return [str(error)]


FLAGS = [flag for group in GROUPS for flag in flags_of(group) if flag.field not in AROUND]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.field)
def test_every_flag_acts_or_is_refused(flag: Any) -> None:
    config = parse_config([*THEIRS, "--use-rotary-position-embeddings"], 4)
    value = ACT.get(flag.field)
    if value is None:
        value = not flag.default if flag.kind is bool else flag.kind((flag.default or 1) * 2)
    if flag.field == "save_interval":
        config = changed(config, "save", "folder")
    if flag.field == "recompute_num_layers":
        config = changed(config, "recompute_granularity", "full")
    assert words(changed(config, flag.field, value)) != words(config)


REFUSED = [
    (
        "--context-parallel-size 2 --use-flash-attn-sdpa",
        2,
        "--context-parallel-size 2: TRAINER=megatron-deepspeed has none",
    ),
    ("--num-key-value-heads 4", 1, "--num-key-value-heads"),
    ("--optimizer sgd", 1, "--optimizer sgd"),
    ("--recompute-granularity full --tile-size 64", 1, "--tile-size 64: TRAINER"),
    ("--no-cross-document", 1, "--no-cross-document"),
    ("--ds-sequence-parallel-size 2", 2, "use USE_FLASH_ATTN=1"),
    ("--pipeline-model-parallel-size 2 --zero-stage 2", 2, "stage 0 or 1"),
    ("--pipeline-model-parallel-size 3", 3, "does not divide the 4 layers"),
    ("--reset-attention-mask --use-flash-attn-sdpa", 1, "has no mask"),
    ("--lr-warmup-iters 5 --lr-decay-iters 5", 1, "--lr-warmup-iters 5 with --lr-decay-iters 5"),
]


@pytest.mark.parametrize(("flags", "ranks", "said"), REFUSED)
def test_refused_by_name(flags: str, ranks: int, said: str) -> None:
    with pytest.raises(UserError) as raised:
        upstream_arguments(parse_config([*THEIRS, *flags.split()], ranks), 16)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--megatron-deepspeed-dir {here}", "there is no megatron"),
        ("--megatron-deepspeed-dir {here} --optimizer muon", "has none"),
        ("--trainer longseq --megatron-deepspeed-dir {here}", "(MEGATRON_DEEPSPEED_DIR) is of"),
        ("--trainer longseq --megatron-deepspeed-dir x", "(TRAINER): give that, or unset it"),
        ("--trainer longseq --as-shipped", "UPSTREAM_FIXES=0"),
    ],
)
def test_one_line_before_a_rank_starts(
    flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*THEIRS, *flags.format(here=tmp_path).split()]
    assert main(["check", "--dry-run", *given]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "where"), [([], "a --run-dir"), (["--run-dir", "{here}"], "--run-dir {here}")]
)
def test_ranks_without_a_check_before_them_are_one_line(
    flags: list[str], where: str, tmp_path: Path
) -> None:
    """It would read DeepSpeed's settings from a file that is not there."""
    config = parse_config([*THEIRS, *(word.format(here=tmp_path) for word in flags)], 1)
    with pytest.raises(UserError) as raised:
        start.train(config, Watch(Stopper()))
    assert str(raised.value) == (
        f"--trainer megatron-deepspeed needs ds_config.json in {where.format(here=tmp_path)}:"
        " TRAINER=megatron-deepspeed ./ALCF/train-gpt3.sh writes it and starts the ranks"
    )


def test_its_shipped_examples_are_answered_in_one_round(tmp_path: Path) -> None:
    """Each word that is behind its program in an example is a flag of ours or has an answer."""
    known = {item.name for group in GROUPS for item in flags_of(group)}
    examples = (upstream_checkout(tmp_path) / "examples_deepspeed").rglob("*pretrain_gpt*.sh")
    seen = 0
    for example in examples:
        text = "".join(
            line for line in example.read_text().splitlines(True) if line.lstrip()[:1] != "#"
        )
        options = re.findall(r'_(?:options|args)="([^"]*)"', text)
        words = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]+", " ".join(options)))
        assert {word for word in words - known if not megatron.told(word)} == set(), example
        seen += "--deepspeed" in words
    assert seen == 5


def test_all_that_its_parser_knows_has_an_answer(tmp_path: Path) -> None:
    known = {item.name for group in GROUPS for item in flags_of(group)}
    parser = (upstream_checkout(tmp_path) / "megatron/arguments.py").read_text()
    theirs = set(re.findall(r"""add_argument\(\s*['"](--[\w-]+)""", parser))
    assert len(theirs) > 300
    assert {word for word in theirs - known if not megatron.told(word)} == set()


@pytest.mark.parametrize(
    ("given", "word", "value"),
    [
        ("--lr-warmup-fraction 0.25 --train-iters 9", "--lr-warmup-fraction", "0.25"),
        ("--lr-warmup-fraction 0.25 --train-iters 8", "--lr-warmup-iters", "2"),
    ],
)
def test_its_warm_up_is_ours(given: str, word: str, value: str) -> None:
    """A part of an iteration too, which its iterations cannot say."""
    said = upstream_arguments(parse_config([*THEIRS, *given.split()], 1), 16)
    assert said[said.index(word) + 1] == value
    assert len([name for name in said if name.startswith("--lr-warmup")]) == 1
