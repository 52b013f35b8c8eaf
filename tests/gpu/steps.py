"""The steps of tests/gpu/run.sh, in the order of their worth: the only list of them.

A step is a module of this folder: `python -m tests.gpu.NAME --out FILE [--within SECONDS] [--device
cuda|cpu] [--tiny]`, which keeps its rows in FILE and ends with 4 where one is wrong (results.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One module of this folder.

    least: seconds without which it is not begun. most: it is ended then. alone: it measures time,
    so that nothing else may use the GPU; the others run side by side. on_cpu: whether a CPU can
    show a part of it, with --device cpu --tiny. module: where it is not `name`; words: for it.
    columns: what the columns of its table on the page mean.
    """

    name: str
    shows: str
    least: float
    most: float
    alone: bool = False
    on_cpu: bool = True
    module: str = ""
    words: tuple[str, ...] = ()
    columns: str = ""

    @property
    def program(self) -> str:
        return f"tests.gpu.{self.module or self.name}"


STEPS = (
    Step(
        "kernels",
        "every attention kernel against the core kernel on the CPU",
        30,
        240,
        words=("--only", "core,v1,v2,v3,cudnn,sdpa"),
        columns="The norm of the difference over the norm of what is right, for attention's output"
        " and the gradients of queries, keys and values. `heads 8/2 of 64`: 8 heads of queries, 2"
        " of keys and values, 64 numbers each. `documents`: attention ends where they end.",
    ),
    Step(
        "kernels_v4",
        "FlashAttention-4, which is compiled at its first call, likewise",
        30,
        240,
        module="kernels",
        words=("--only", "v4"),
    ),
    Step(
        "kernels_triton",
        "FlexAttention, which is compiled at its first call, likewise",
        30,
        240,
        module="kernels",
        words=("--only", "triton"),
    ),
    Step(
        "against_cpu",
        "training on the GPU against the CPU",
        40,
        240,
        columns="`loss`, `norm`: the largest relative difference from the CPU in fp32, of the"
        " losses and of the gradient norms of five updates. `left out`: further updates, which"
        " fp16's loss scale left out. `dropout`: a second run on the GPU against the first.",
    ),
    Step(
        "savings",
        "what is traded for memory: equal to none of it, and what it saves",
        45,
        300,
        words=("--part", "device"),
        columns="`loss`, `norm`: the largest relative difference from the same training with none"
        " of them, over three updates. `saved GiB`: by how much the peak is lower.",
    ),
    Step(
        "offload",
        "optimizer and weights in host memory and in files: equal to none of it",
        45,
        300,
        module="savings",
        words=("--part", "host"),
        columns="Columns as in the table before.",
    ),
    Step(
        "sharing",
        "ranks that share the GPU against one rank",
        45,
        240,
        columns="`loss`: the largest difference from one rank over four updates, in nats; `norm`:"
        " of gradient norms, relative; `last`: the loss of the last update.",
    ),
    Step("repeat", "determinism and resume, bit for bit", 45, 240),
    Step(
        "syncs",
        "where a step waits for the GPU",
        20,
        90,
        columns="How often our code waits in a part of a step, how often it may, and how often"
        " DeepSpeed's code does; `why`: at which lines.",
    ),
    Step(
        "attention",
        "TFLOPS of every attention kernel",
        20,
        120,
        alone=True,
        on_cpu=False,
        columns="One sample; of the causal half, backward counted as two and a half forward passes."
        " `best`: the kernel that `USE_FLASH_ATTN=1` takes.",
    ),
    Step(
        "speed",
        "TFLOPS and MFU by length, peak memory beside the estimate",
        60,
        600,
        alone=True,
        on_cpu=False,
        columns="`TFLOPS` as Megatron counts, `model_TFLOPS` what the network needs ([metrics.md]"
        "(metrics.md)), `MFU` that over the maker's peak; `GiB` the peak, `planned_GiB` the plan's;"
        " `seconds` of a step, the median of `steps`.",
    ),
    Step(
        "beside",
        "the same step in plain PyTorch and in transformers",
        45,
        400,
        alone=True,
        on_cpu=False,
        columns="`ratio`: seconds over ours at the same length in the same table, so that above 1"
        " ours is faster. The others keep weights and optimizer state in bf16, 8 bytes a parameter,"
        " of which ours has 16; `compiled-masters` keeps weights in fp32 too, by autocast.",
    ),
    Step(
        "profile",
        "where one step's time goes",
        15,
        150,
        alone=True,
        columns="Milliseconds of a step by kind of kernel, their share of it, how many calls;"
        " `unwatched`: without the profiler.",
    ),
)
