"""Where a step's time goes, and its speed beside that of bare matmul and bare attention.

One fp32 rank. Time inside attention and matmul kernels is what torch's profiler counts as theirs;
all else (norms, pointwise, loss, optimizer, DeepSpeed, Python) is the rest. Speed is that of steps
without the profiler, in operations of the model (causal attention, no recomputation), against the
best rate of this network's matmuls and that of torch's attention, taken in between; all also by the
time that the threads ran, which other programs disturb less. "its share" is what bare attention
would take of the step. Bars: rest at most 20 %, speed at least 0.65 of the matmul's; at 64k tokens,
all but attention recomputed, attention's share at least 0.85, speed at least 0.8 of its rate.
"""

from __future__ import annotations

import shlex
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.start import network
from benchmarks.table import Table
from benchmarks.timing import seconds
from benchmarks.worker import make_trainer, random_batches
from longseq.run.throughput import model_flops

MATMUL = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmm_")
ATTENTION = "scaled_dot_product"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", type=int, help="else of 64 each")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--flags", default="", help="further flags of the run")


def parts(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Seconds a step in matmul, in attention, and in each other operation, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        whole = seconds(step, steps)
    times: dict[str, float] = {}
    for event in found.key_averages():
        name = "matmul" if event.key in MATMUL else event.key
        name = "attention" if ATTENTION in name else name
        times[name] = times.get(name, 0.0) + event.self_cpu_time_total / 1e6 / steps
    times["not in operations"] = max(0.0, whole - sum(times.values()))
    return times


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the process's threads together."""
    clock, threads = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - clock, time.process_time() - threads


def main(options: Namespace) -> str:
    torch.set_num_threads(options.threads)
    hidden, tokens, layers = options.hidden, options.tokens, options.layers
    heads = options.heads or hidden // 64
    flags = shlex.split(options.flags)
    trainer = make_trainer(network(tokens, *flags, layers=layers, hidden=hidden, heads=heads))
    step = partial(trainer.step, random_batches(trainer, tokens))
    x, w = torch.randn(tokens, hidden), torch.randn(hidden, 4 * hidden)
    q, k, v = (torch.randn(1, heads, tokens, hidden // heads, requires_grad=True) for _ in range(3))

    def attend() -> None:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.backward(torch.ones_like(y))

    for act in (step, step, attend):
        act()
    rows = []
    for _ in range(options.steps):
        tries = [timed(lambda: x @ w) for _ in range(20)]
        product = tuple(min(column) for column in zip(*tries, strict=True))
        rows.append((timed(step), product, timed(attend)))
    work = model_flops(trainer.config.network, 16, 1, tokens)
    # model_flops counts forward and backward as 3 times forward, and so does this
    works = work, 8.0 * tokens * hidden**2, 3 * 4 * hidden * tokens**2 / 2
    rates = ("GFLOP/s", ".0f"), ("matmul's", ".0f"), ("ratio", ".2f")
    columns = *rates, ("attention's", ".0f"), ("ratio", ".2f"), ("its share", ".2f")
    table = Table(("by", "<11"), ("s a step", ".3f"), *columns)
    speeds = []
    for at, name in enumerate(("the clock", "the threads")):
        times = [statistics.median(row[of][at] for row in rows) for of in range(3)]
        ours, product, bare = (
            flops / taken / 1e9 for flops, taken in zip(works, times, strict=True)
        )
        share = layers * times[2] / times[0]
        table.row(name, times[0], ours, product, ours / product, bare, ours / bare, share)
        speeds.append(ours / product)
    found = parts(step, options.steps)
    whole = sum(found.values())
    table = Table(("operation", "<50"), ("share", ".1%"))
    for name, taken in sorted(found.items(), key=lambda item: -item[1])[:16]:
        table.row(name, taken / whole)
    rest = 1 - (found["matmul"] + found["attention"]) / whole
    return f"{speeds[0]:.2f}; {100 * rest:.1f} % of the time"
