"""The argument list: what is accepted, what is refused and how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.config import megatron
from longseq.config.arguments import GROUPS
from longseq.config.checks import parse_config
from longseq.config.flags import flags_of
from longseq.errors import UserError
from longseq.host.variables import read_table
from longseq.reports.flag_table import flag_table

ROOT = Path(__file__).parents[3]


def test_docs_are_current() -> None:
    assert (ROOT / "docs/flags.md").read_text() == flag_table() + "\n"


REFUSED = [
    # flags, ranks, words of the message
    ("--seqlength 5", 1, "'--seqlength'; did you mean --seq-length?"),
    ("--micro-batch 2", 1, "'--micro-batch'; did you mean --micro-batch-size?"),
    ("--no-such-thing 4", 1, "unknown argument '--no-such-thing': --help lists what there is"),
    ("stray", 1, "unknown argument 'stray'"),
    ("--profile pt", 1, "--profile takes no value: leave 'pt' out"),
    ("--seed 3 4 --lr=1 2", 1, "--seed takes one value: leave '4' out; --lr takes one value: lea"),
    (
        "--data-path .3 A .7 B",
        1,
        "takes one name: several data sets are a file with a line each: pr",
    ),
    (
        "--data-path .3 A .7 B",
        1,
        r"printf '%s\n' '.3 A' '.7 B' > mix.blend, and --data-path mix.ble",
    ),
    ("--data-path=A B", 1, r"printf '%s\n' '1 A' '1 B' > mix.blend, and --data-path mix.blend (DA"),
    ("--use-checkpoint-opt_param-scheduler", 1, "leave it out, and --lr and the schedule's other"),
    ("--num-workers 0", 1, "--num-workers is no argument here: leave it out, it changes nothing"),
    ("--no-bias-gelu-fusion", 1, "no argument here: leave it out, GELU is the tanh form, and"),
    ("--num-query-groups 4", 1, "--num-query-groups is no argument here: give --num-key-value-"),
    ("--seq-length", 1, "--seq-length: expected one argument"),
    ("--seq-length 1k", 1, "--seq-length '1k' is not a whole number"),
    ("--seq-length -4", 1, "--seq-length -4 is too small"),
    (f"--seq-length {'9' * 5000}", 1, "is not a whole number"),
    ("--seq-length 99999999999999999999999", 1, "is too large"),
    ("--seq-length 9223372036854775806 --tensor-model-parallel-size 2", 1, "1 rank cannot"),
    ("--save-interval 1" + "0" * 400, 1, "is too large: give 9223372036854775807 or less"),
    ("--adam-beta1 1.0", 1, "--adam-beta1 1.0 is too large: give less than 1"),
    ("--adam-beta2 1", 1, "--adam-beta2 1 is too large: give less than 1"),
    ("--adam-beta2 0.99999999999999999", 1, "give less than 1"),
    ("--adam-eps 0", 1, "--adam-eps 0 is too small: give 1e-30 or more"),
    ("--adam-eps 1e-50", 1, "give 1e-30 or more"),
    ("--adam-eps 1e300", 1, "give 1 or less"),
    ("--init-method-std 0", 1, "--init-method-std 0 is too small: give 1e-09 or more"),
    ("--init-method-std 1e30", 1, "give 10 or less"),
    ("--layernorm-epsilon 1e30", 1, "give 1 or less"),
    (
        "--lr 1e10",
        1,
        "--weight-decay 0.01 at --lr 1e+10 (LR) would take more of a weight than there is",
    ),
    (
        "--weight-decay 1e10",
        1,
        "--weight-decay 1e+10 at --lr 0.00015 (LR) would take more of a weight",
    ),
    ("--hang-timeout 1e300", 1, "give 1800 or less"),
    ("--lr nan", 1, "--lr 'nan' is not a finite number"),
    ("--lr-decay-style cosin", 1, "is not one of cosine, linear, constant"),
    ("--pipeline-model-parallel-size 2", 2, "there is no pipeline"),
    ("--tensor-model-parallel-size 2", 3, "must be a multiple of 2"),
    ("--sequence-parallel", 1, "leave it out"),
    ("--hidden-size 100", 1, "use 96 or 104"),
    ("--num-attention-heads 8 --tensor-model-parallel-size 3", 3, "does not divide by"),
    ("--num-key-value-heads 3", 1, "does not divide by --num-key-value-heads 3"),
    ("--num-key-value-heads 1 --tensor-model-parallel-size 2", 2, "Ulysses or ring"),
    ("--seq-length 1001 --tensor-model-parallel-size 2 --sequence-parallel", 2, "1000 or 1002"),
    ("--global-batch-size 3", 2, "use a multiple of 2"),
    ("--bf16 --fp16", 1, "exclude each other"),
    (
        "--fp16 --device cpu",
        1,
        "--fp16 (DTYPE=fp16): float16 training is not supported on CPUs: use",
    ),
    ("--cpu-optimizer", 1, "give --zero-stage 1, 2 or 3"),
    ("--cpu-optimizer --zero-stage 1 --optimizer sgd", 1, "has no sgd"),
    ("--nvme-optimizer --zero-stage 2 --nvme-path /x", 1, "give --zero-stage 3"),
    ("--nvme-optimizer --zero-stage 3", 1, "needs --nvme-path"),
    ("--nvme-optimizer --cpu-optimizer --zero-stage 3", 1, "exclude each other"),
    ("--nvme-path /x", 1, "--nvme-path /x (NVME_PATH): nothing is offloaded"),
    ("--remote-device cpu --zero-stage 2", 1, "give --zero-stage 3"),
    ("--remote-device nvme --zero-stage 3 --nvme-path /x", 1, "needs --nvme-optimizer"),
    ("--optimizer muon --zero-stage 1", 1, "whole matrices, which --zero-stage 1 cuts up"),
    ("--optimizer adafactor --tensor-model-parallel-size 2", 2, "parallel-size 2 cuts up"),
    ("--on-spike rewind --save x", 1, "give --save and --save-interval"),
    ("--context-parallel-size 2", 2, "give --use-flash-attn-sdpa"),
    ("--ds-sequence-parallel-size 16", 16, "8 query heads: use 8 or fewer"),
    (
        "--ds-sequence-parallel-size 4 --tensor-model-parallel-size 4",
        16,
        "the 2 query heads of a tensor-parallel rank: use 2 or fewer",
    ),
    (
        "--tensor-model-parallel-size 16",
        16,
        "--num-attention-heads 8 does not divide by --tensor-model-parallel-size 16: use a size"
        " that divides it",
    ),
    ("--use-flash-attn-v2 --use-flash-attn-sdpa", 1, "exclude each other"),
    ("--use-flash-attn-sdpa --attention-dropout 0.1 --device cpu", 1, "USE_FLASH_ATTN=0"),
    ("--rotary-percent 0.5", 1, "0.5 acts with --use-rotary-position-embeddings"),
    ("--rope-theta 2e6", 1, "--rope-theta 2e+06 acts with --use-rotary-position-embeddings"),
    ("--ds-sequence-parallel-fpdt-chunk-size 8", 1, "8 acts with --ds-sequence-parallel-fpdt only"),
    ("--ds-sequence-parallel-fpdt-offloading", 1, "acts with --ds-sequence-parallel-fpdt only"),
    ("--adam-beta1 0.8 --optimizer sgd", 1, "--adam-beta1 0.8 acts with --optimizer adam"),
    ("--adam-beta2 0.9 --optimizer adafactor", 1, "--adam-beta2 0.9 acts with --optimizer adam"),
    ("--adam-eps 1e-6 --optimizer sgd", 1, "--adam-eps 1e-06 acts with --optimizer adam or muon"),
    ("--keep-last 2", 1, "--keep-last 2 acts with --save, the folder of the checkpoints, only"),
    ("--hang-timeout 60", 1, "--hang-timeout 60 acts with --run-dir"),
    ("--tensorboard-dir x", 1, "--tensorboard-dir x acts with --run-dir"),
    ("--wandb-project x", 1, "--wandb-project x acts with --run-dir"),
    ("--use-rotary-position-embeddings --rotary-percent 0.01", 1, "rotates nothing"),
    (
        "--hidden-size 288 --num-attention-heads 9 --seq-length 2304"
        " --max-position-embeddings 18432 --tensor-model-parallel-size 9"
        " --make-vocab-size-divisible-by 9",
        9,
        "blocks of 6720 rows that 18432 learned positions are kept in",
    ),
    ("--max-position-embeddings 100", 1, "is below --seq-length 2048"),
    ("--lr-warmup-iters 5 --lr-warmup-fraction 0.1", 1, "exclude each other"),
    ("--lr-warmup-iters 500", 1, "longer than the schedule"),
    ("--min-lr 1", 1, "--min-lr 1 (MIN_LR) is above --lr 0.00015 (LR)"),
    *((f"--split {text}", 1, "up to three weights") for text in ("949,nan,1", "1,inf,0", "a")),
    *((f"--train-iters {n}", 1, f"{n!r} is not a whole number") for n in ("1_000", "١٢")),
    *((f"--lr {n}", 1, f"{n!r} is not a number") for n in ("1_0e-5", "١e-4")),
    ("--split 1_0,1,1", 1, "up to three weights"),
    ("--lr -1e-5", 1, "--lr -1e-5 is too small: give 0 or more"),
    ("--seed 2147483648", 1, "--seed 2147483648 is too large: give 2147483647 or less"),
    (f"--train-iters -{'9' * 20}", 1, f"-{'9' * 20} is too small: give 1 or more"),
    (f"--train-iters {2**63}", 1, f"{2**63} is too large: give {2**63 - 1} or less"),
    ("-- --num-layers 4", 1, "-- among the arguments: leave it out"),
    ("--split 0,1,1", 1, "--split 0,1,1 leaves nothing for training"),
    ("--save-interval 5", 1, "--save-interval 5 acts with --save"),
    (
        "--no-cross-document --reset-position-ids",
        1,
        "--reset-position-ids acts on samples of several documents only: drop --no-cross-document,"
        " or leave it out",
    ),
    ("--no-cross-document --reset-attention-mask", 1, "--reset-attention-mask acts on samples"),
    (
        "--valid-records a --test-records b --split 9,1,1",
        1,
        "--split 9,1,1 acts where --valid-records and --test-records do not name all",
    ),
    ("--save x --keep-every 5", 1, "--keep-every 5: without --keep-last nothing is removed"),
]


@pytest.mark.parametrize(("flags", "ranks", "words"), REFUSED)
def test_refused_with_the_reason(flags: str, ranks: int, words: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_config(flags.split(), ranks)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fraction", "iterations", "warmup"),
    [("0.29", 100, 29), ("0.57", 100, 57), ("0.1", 25, 2.5), ("0.01", 99, 0.99), ("1", 7, 7)],
)
def test_the_warm_up_loses_nothing_to_rounding(
    fraction: str, iterations: int, warmup: float
) -> None:
    flags = ["--lr-warmup-fraction", fraction, "--train-iters", str(iterations)]
    assert parse_config(flags, 1).training.warmup_iters == warmup


def test_what_acts_beside_others_is_taken() -> None:
    """Muon steps tables by Adam; a warm-up fraction is one of --lr-decay-iters, whatever follows;
    and SEQ_LEN gives positions to rotary runs as well.
    """
    flags = "--optimizer muon --adam-beta2 0.95 --lr-decay-style constant --lr-decay-iters 50"
    flags += " --lr-warmup-fraction 0.1 --use-rotary-position-embeddings --rope-theta 5e5"
    flags += " --valid-records a --split 9,1 --no-cross-document --eod-mask-loss"
    config = parse_config([*flags.split(), "--max-position-embeddings", "2048"], 1)
    assert config.training.warmup_iters == 5


def test_exit_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--seq-length", "x"]) == 2
    assert capsys.readouterr().err == "longseq: --seq-length 'x' is not a whole number\n"


def test_ranks_are_a_number_that_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--world-size", "9" * 5000]) == 2
    assert "is not a number of ranks" in capsys.readouterr().err


def test_the_last_of_a_repeated_flag_wins() -> None:
    assert parse_config(["--seq-length", "8", "--seq-length", "16"], 1).network.seq_length == 16


def test_batch_and_layout_follow_from_the_ranks() -> None:
    flags = "--tensor-model-parallel-size 2 --micro-batch-size 3 --global-batch-size 24"
    config = parse_config(flags.split(), 8)
    assert (config.layout.dp, config.accumulation) == (4, 2)
    assert str(config.layout) == "8 ranks = tp 2 x ulysses 1 x ring 1 x dp 4"
    assert str(parse_config([], 1).layout) == "1 rank = tp 1 x ulysses 1 x ring 1 x dp 1"


def test_all_that_are_unknown_are_told_at_once() -> None:
    words = "--deepspeed --swiglu --num-workers 0 --train-samples=9 --seqlength 4 --foo 3 --bar"
    with pytest.raises(UserError) as raised:
        parse_config(words.split(), 1)
    assert str(raised.value) == (
        "6 arguments that are none here; --deepspeed, --num-workers: leave it out, it changes"
        " nothing here; --train-samples: give --train-iters (TRAIN_ITERS), samples over the global"
        " batch; --seqlength: did you mean --seq-length?; --foo, --bar: --help lists what there is"
    )


def test_what_is_said_of_megatrons_arguments_is_there() -> None:
    """None is a flag of ours, and every flag and variable that is named is one."""
    flags = {item.name for group in GROUPS for item in flags_of(group)}
    verbs = {"--output", "--weights-only", "--chain"}
    assert not flags.intersection({*megatron.LEAVE_OUT, *megatron.INSTEAD})
    assert not megatron.LEAVE_OUT.intersection(megatron.INSTEAD)
    text = " ".join(megatron.INSTEAD.values())
    assert set(re.findall(r"--[a-z][\w-]+", text)) <= flags | verbs
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text))
    assert named <= set(read_table().ours)


def test_the_local_rank_of_launchers_must_be_that_of_the_environment() -> None:
    words = ["--local_rank=1", "--lr", "1", "--local-rank=1"]
    assert megatron.without_local_rank(words, "1") == ["--lr", "1"]
    with pytest.raises(UserError, match="--local_rank=1, but LOCAL_RANK=0: leave --local_r"):
        megatron.without_local_rank(words, "0")


def test_megatrons_words_mean_nothing_to_other_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--num-workers", "2"]) == 2
    assert "unknown argument '--num-workers': --help lists" in capsys.readouterr().err
