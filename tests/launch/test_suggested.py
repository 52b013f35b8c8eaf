"""The line that `longseq plan --suggest` says to type makes the run that was planned."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from longseq.config.arguments import GROUPS
from longseq.config.flags import parse
from longseq.planning.gpus import gpu_named, usual_node
from longseq.planning.ways import Choice, Request

NETWORK = "--num-layers 12 --hidden-size 768 --num-attention-heads 16 --bf16"


@pytest.mark.parametrize(
    "choice",
    [
        Choice(2, 2, 1, 1, 2, "outside-attention", optimizer_on_host=True),
        Choice(1, 4, 1, 3, 1, "full", True, True, True, chunks=True),
        Choice(1, 1, 4, 3, 1, "none"),
        Choice(1, 2, 4, 3, 1, "auto"),
    ],
)
def test_a_suggested_line_gives_the_planned_flags(
    choice: Choice, arguments: Callable[..., list[str]]
) -> None:
    asked = Request(parse(GROUPS, NETWORK.split()), 8, usual_node(gpu_named("a100-40")), 128)
    planned = choice.config(asked, 8192)
    words = shlex.split(choice.line(asked, 8192))
    script = words.index("./ALCF/train-gpt3.sh")
    env = dict(word.split("=", 1) for word in words[:script]) | {"MODEL_SIZE_KEY": "GPT125M"}
    typed = arguments(*words[script + 2 :], device="cuda", devices=8, **env)
    _, layout, memory, training, _, _ = parse(GROUPS, typed)
    for group, wanted in ((layout, planned.layout), (training, planned.training)):
        for name in (
            "tp ulysses ring sequence_parallel zero_stage micro_batch_size cpu_optimizer"
            " remote_device dtype"
        ).split():
            assert getattr(group, name, None) == getattr(wanted, name, None), name
    for name in "recompute_granularity checkpoint_in_cpu ds_sequence_parallel_fpdt".split():
        assert getattr(memory, name) == getattr(planned.memory, name), name
