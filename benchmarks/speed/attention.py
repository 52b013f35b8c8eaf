"""The attention kernels of this machine side by side: one call, forward, then with its backward.

Whole samples of one row, bf16, [s, b, heads, d] as the network has it; medians of calls in turn.
TFLOPS count the causal half, backward as two and a half forward passes, as flash kernels do theirs.
On a GPU the clock's time until it is done; on a CPU, one thread's CPU time.
"""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import torch

from benchmarks.table import Table
from benchmarks.timing import seconds
from longseq.attention.kernel import Documents, kernel
from longseq.attention.limits import KERNELS
from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import parse
from longseq.config.kernels import this_machine, why_not


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 65536])
    parser.add_argument(
        "--heads", nargs="+", default=["24x64", "16x48", "16x128"], metavar="COUNTxSIZE"
    )
    parser.add_argument("--kernels", nargs="+", choices=tuple(KERNELS), default=list(KERNELS))
    parser.add_argument("--calls", type=int, default=5)


def config_of(name: str, device: str, heads: int, size: int, documents: bool = False) -> Config:
    """The run that would call the kernel so; name: one of KERNELS, or best."""
    words = f"--device {device} --bf16 --hidden-size {heads * size} --num-attention-heads {heads}"
    words += f" --use-flash-attn-{name}" if name != "core" else ""
    words += " --reset-attention-mask" if documents else ""
    return Config(*parse(GROUPS, words.split()))


def calls_of(
    name: str, device: str, s: int, heads: int, size: int, documents: Documents = None
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward alone, and with backward, on views of one fused product."""
    fused = torch.randn(s, 1, 3 * heads, size, dtype=torch.bfloat16, device=device)
    q, k, v = fused.requires_grad_().split(heads, 2)
    attend, dy = kernel(name), torch.randn_like(q)

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            attend(q, k, v, documents, None)
        finish()

    def both() -> None:
        torch.autograd.grad(attend(q, k, v, documents, None), (q, k, v), dy)
        finish()

    return forward, both


def main(options: Namespace) -> None:
    torch.set_num_threads(1)
    clock = time.perf_counter if options.device == "cuda" else time.process_time
    columns = ("forward ms", ".2f"), ("TFLOPS", ".1f"), ("and backward", ".2f"), ("TFLOPS", ".1f")
    table = Table(("tokens", ","), ("heads", "<8"), ("kernel", "<8"), *columns)
    for s in options.tokens:
        for shape in options.heads:
            heads, size = map(int, shape.split("x"))
            here, device = this_machine(), options.device
            able = {n: not why_not(n, config_of(n, device, heads, size), here) for n in KERNELS}
            names = [name for name in options.kernels if able[name]]
            calls = {name: calls_of(name, options.device, s, heads, size) for name in names}
            for way in (way for ways in calls.values() for way in ways):
                way()  # the first call finds, or compiles, the kernel
            rounds = [
                {name: [seconds(way, clock=clock) for way in ways] for name, ways in calls.items()}
                for _ in range(options.calls)
            ]
            flops = 2 * s * s * heads * size  # two products of the causal half
            for name in names:
                fore, both = (statistics.median(r[name][i] for r in rounds) for i in (0, 1))
                rates = flops / fore / 1e12, 3.5 * flops / both / 1e12
                table.row(s, shape, name, 1e3 * fore, rates[0], 1e3 * both, rates[1])
