"""Run under mpiexec: one step of each named case; prints as JSON the largest tensor that it made.

For each case: the bytes of the largest tensor, those of the largest one with a dimension of the
whole sequence, and the bytes that reading the batch took at most. The step's own weights are left
out, and so is the attention of the `core` kernel, whose scores are of another order.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longseq.config.arguments import Config
from tests.parallel.losses import GENOME, make_trainer, run_cases

COMMON = [
    *("--num-layers", "1", "--hidden-size", "64", "--num-attention-heads", "4", "--device", "cpu"),
    *("--seq-length", "10240", "--use-flash-attn-sdpa"),
    *("--tile-size", "256", "--make-vocab-size-divisible-by", "32"),
    *("--data-path", GENOME),
]


class Watch(TorchDispatchMode):
    """Remembers the largest results of all operations, backward's included."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self.largest, self.longest = length, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, torch.Tensor):
                size = x.numel() * x.element_size()
                self.largest = max(self.largest, size)
                if self.length in x.shape:
                    self.longest = max(self.longest, size)
        return result


def step(config: Config) -> dict[str, int]:
    trainer, feed = make_trainer(config)
    # Never stopped: gloo's threads let go of tensors whenever they like, which Python 3.11 does not
    # survive in the moment in which this stops
    tracemalloc.start()
    list(feed.step(0))  # the index of the data is read once, whatever the length
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    batches = list(feed.step(config.global_batch_size))
    _, peak = tracemalloc.get_traced_memory()
    with Watch(config.network.seq_length) as watch:
        trainer.step(batches)
    trainer.close()
    return {"largest": watch.largest, "longest": watch.longest, "batch": peak - before}


if __name__ == "__main__":
    run_cases(step, COMMON)
