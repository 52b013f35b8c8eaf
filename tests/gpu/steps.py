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
    """

    name: str
    shows: str
    least: float
    most: float
    alone: bool = False
    on_cpu: bool = True
    module: str = ""
    words: tuple[str, ...] = ()

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
    Step("against_cpu", "training on the GPU against the CPU", 40, 240),
    Step(
        "savings",
        "what is traded for memory: equal to none of it, and what it saves",
        45,
        300,
        words=("--part", "device"),
    ),
    Step(
        "offload",
        "optimizer and weights in host memory and in files: equal to none of it",
        45,
        300,
        module="savings",
        words=("--part", "host"),
    ),
    Step("sharing", "ranks that share the GPU against one rank", 45, 240),
    Step("repeat", "determinism and resume, bit for bit", 45, 240),
    Step("syncs", "where a step waits for the GPU", 20, 90),
    Step("attention", "TFLOPS of every attention kernel", 20, 120, alone=True, on_cpu=False),
    Step(
        "speed",
        "TFLOPS and MFU by length, peak memory beside the estimate",
        60,
        600,
        alone=True,
        on_cpu=False,
    ),
    Step(
        "beside",
        "the same step in plain PyTorch and in transformers",
        45,
        400,
        alone=True,
        on_cpu=False,
    ),
    Step("profile", "where one step's time goes", 15, 150, alone=True),
)
