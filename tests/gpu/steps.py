"""The steps of tests/gpu/run.sh, in the order of their worth: the only list of them.

A step is a module of this folder: `python -m tests.gpu.NAME --out FILE [--within SECONDS] [--device
cuda|cpu] [--tiny]`, which keeps its rows in FILE and ends with 1 where one is wrong (results.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One module of this folder.

    least: seconds without which it is not begun. most: it is ended then. on_cpu: whether a CPU can
    show a part of it, with --device cpu --tiny.
    """

    name: str
    shows: str
    least: float
    most: float
    on_cpu: bool = True


STEPS = (
    Step("kernels", "every attention kernel against the core kernel on the CPU", 30, 240),
    Step("against_cpu", "training on the GPU against the CPU", 40, 240),
    Step("savings", "what is traded for memory: equal to none of it, and what it saves", 45, 300),
    Step("sharing", "ranks that share the GPU against one rank", 45, 240),
    Step("repeat", "determinism and resume, bit for bit", 45, 240),
    Step("syncs", "where a step waits for the GPU", 20, 90),
    Step("speed", "TFLOPS and MFU by length, peak memory beside the estimate", 60, 600, False),
    Step("beside", "the same step in plain PyTorch and in transformers", 45, 400, False),
    Step("profile", "where one step's time goes", 15, 150),
)
