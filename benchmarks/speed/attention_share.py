"""A long step against attention's own kernel: its share of the time, and the FLOP rates of both.

One fp32 rank with two threads, hidden 256, 8 heads, attention kept and all else recomputed. Bars:
attention at least 0.85 of the step at 64k tokens, the step's rate at least 0.8 of bare SDPA's.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch
import torch.nn.functional as F

from benchmarks.start import OUTSIDE, Job, network, run
from benchmarks.table import Table
from benchmarks.timing import seconds
from longseq.config.arguments import Network
from longseq.run.throughput import model_flops


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--layers", type=int, default=2)


def main(options: Namespace) -> str:
    tokens, layers = options.tokens, options.layers
    step = run(1, Job(network(tokens, *OUTSIDE, layers=layers)), threads=2).seconds
    torch.set_num_threads(2)
    q, k, v = (torch.randn(1, 8, tokens, 32, requires_grad=True) for _ in range(3))

    def attend() -> None:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.backward(torch.ones_like(y))

    bare = seconds(attend)
    shape = Network(num_layers=layers, hidden_size=256, num_attention_heads=8)
    # model_flops counts forward and backward as 3 times forward, for the kernel as for the step
    rate = model_flops(shape, 16, 1, tokens) / step / 1e9
    bare_rate = 3 * 4 * 256 * tokens**2 / 2 / bare / 1e9
    columns = ("s", ".1f"), ("share", ".3f"), ("GFLOP/s", ".0f"), ("ratio", ".3f")
    table = Table(("", "<24"), *columns)
    table.row(f"step, {layers} layers", step, 1.0, rate, rate / bare_rate)
    table.row("bare SDPA of one layer", bare, layers * bare / step, bare_rate, 1.0)
    return f"{layers * bare / step:.2f} of the step; rate {rate / bare_rate:.2f} of bare SDPA's"
