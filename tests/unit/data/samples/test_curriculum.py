"""The schedule of sequence lengths."""

import pytest

from longseq.config.checks import parse_config
from longseq.data.samples.curriculum import Curriculum, curriculum_of
from longseq.errors import UserError


def test_lengths() -> None:
    plan = Curriculum(start=64, full=1024, steps=10, multiple=64)
    assert plan.length(1) == 128  # 160 rounded down
    assert plan.length(5) == 512  # 544 rounded down
    assert plan.length(10) == plan.length(999) == 1024
    assert all(plan.length(i) % 64 == 0 for i in range(1, 12))


@pytest.mark.parametrize("root", [1, 2, 3])
def test_lengths_are_those_of_megatron_deepspeed(root: int) -> None:
    """Which asks DeepSpeed's schedule for `iteration + 1`, counted from 0."""
    from deepspeed.runtime.data_pipeline.curriculum_scheduler import CurriculumScheduler

    plan = Curriculum(16, 64, 10, 16, root)
    schedule = {"total_curriculum_step": 10, "difficulty_step": 16, "root_degree": root}
    theirs = CurriculumScheduler(
        {
            "curriculum_type": "seqlen",
            "min_difficulty": 16,
            "max_difficulty": 64,
            "schedule_type": "fixed_root",
            "schedule_config": schedule,
        }
    )
    for iteration in range(12):
        assert plan.length(iteration + 1) == theirs.get_difficulty(iteration + 1)


def test_square_root_grows_faster_at_first() -> None:
    even, root = (Curriculum(8, 8000, 100, 8, root) for root in (1, 2))
    assert root.length(25) == 4000
    assert even.length(25) == 2000


@pytest.mark.parametrize("wrong", [(0, 8, 1, 8), (16, 8, 1, 8), (8, 12, 1, 8), (8, 16, 0, 8)])
def test_wrong_plans(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError, match="curriculum"):
        Curriculum(*wrong)


def lengths(*flags: str, world: int = 1) -> list[int]:
    config = parse_config(["--seq-length", "1024", *flags], world)
    return [curriculum_of(config).length(number) for number in range(1, 6)]


def test_from_flags() -> None:
    grows = ["--curriculum-seq-length", "256", "--curriculum-iters", "4"]
    assert lengths() == [1024] * 5
    assert lengths(*grows) == [256, 512, 768, 1024, 1024]
    assert lengths(*grows, "--ds-sequence-parallel-size", "4", world=4) == lengths(*grows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--curriculum-seq-length 1024 --curriculum-iters 4", "not below --seq-length"),
        ("--curriculum-seq-length 512", "needs --curriculum-iters"),
        ("--curriculum-seq-length 512 --curriculum-iters 1", "give 2 or more"),
        ("--curriculum-iters 4", "need --curriculum-seq-length"),
        (
            "--curriculum-seq-length 512 --curriculum-iters 301 --train-iters 300",
            "301 is more than --train-iters 300",
        ),
        ("--curriculum-root 2", "need --curriculum-seq-length"),
        (
            "--curriculum-seq-length 511 --curriculum-iters 4 --ds-sequence-parallel-size 2",
            "510 or 512",
        ),
        (
            "--curriculum-seq-length 512 --curriculum-iters 4 --no-cross-document",
            "leave one of them out",
        ),
    ],
)
def test_flags_that_cannot_act(flags: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lengths(*flags.split(), world=2)
