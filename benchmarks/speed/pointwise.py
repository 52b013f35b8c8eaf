"""Does torch.compile of a layer's pointwise parts pay? Forward and backward, in turn with eager.

Hidden 768, 12 heads of 64, MLP 3072 (2048 with SwiGLU). Eager is what the trainer runs, where the
matmul adds the bias; "bias + GELU" takes it out of there in both. Compiled dropout has torch's own
random numbers, which recomputation and other layouts would not repeat. "compile" is the first call,
which each rank waits for. On a CPU milliseconds are of one thread's CPU time, which other programs
disturb less than the clock's. "gradient accumulation" is a weight's gradient, added up by a product
and a sum as autograd does, and by one call ("compiled"). The last line holds what compiled GELU and
rotary would save of a forward and backward pass of 4 such layers (vocabulary 512).
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.start import network
from benchmarks.table import Table
from benchmarks.timing import in_turn, seconds
from longseq.attention.kernel import kernel
from longseq.config.checks import parse_config
from longseq.engine.network.initialize import initialize
from longseq.model.dropout import Dropout
from longseq.model.gpt import GPT
from longseq.model.norm import Norm
from longseq.model.rotary import rotary_table, turned_heads

HIDDEN, HEADS, LAYERS = 768, 12, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DROPOUT = Dropout(0.1, 1, 0)
CALLS = 21


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--tokens", type=int, default=2048)


def swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


class Part(NamedTuple):
    """A pointwise part as the trainer runs it, its inputs, and the same for the compiler."""

    name: str
    eager: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]
    fused: Callable[..., Tensor] | None = None


def parts(tokens: int, dtype: torch.dtype, device: str) -> list[Part]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)

    def turn(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        return turned_heads(x, HEADS, (cos, sin))

    gelu = partial(F.gelu, approximate="tanh")
    table = rotary_table(torch.arange(tokens, device=device)[None], HIDDEN // HEADS, 1e4)
    x, y, wide = draw(tokens, 1, HIDDEN), draw(tokens, 1, HIDDEN), draw(tokens, 1, 4 * HIDDEN)
    weight, bias, heads = draw(HIDDEN), draw(HIDDEN), draw(tokens, 1, 3 * HEADS, HIDDEN // HEADS)
    h, rms_norm = (HIDDEN,), Norm(HIDDEN, "rmsnorm", 1e-5).to(device, dtype)
    return [
        Part("GELU", gelu, (wide,)),
        Part("bias + GELU", lambda x, bias: gelu(x + bias), (wide, draw(4 * HIDDEN))),
        Part("SwiGLU", swiglu, (draw(tokens, 1, 4096),)),
        Part(
            "dropout + add",
            lambda x, y: x + DROPOUT(y, 0),
            (x, y),
            lambda x, y: x + F.dropout(y, 0.1),
        ),
        Part("LayerNorm", lambda x, w, b: F.layer_norm(x, h, w, b, 1e-5), (x, weight, bias)),
        Part("RMSNorm", lambda x, w: rms_norm(x), (x, rms_norm.weight)),
        Part("rotary", turn, (heads, *table)),
    ]


def milliseconds(device: str, act: Callable[[], object]) -> float:
    """CPU time on a CPU; on a GPU the clock's, until it is done."""
    if device == "cpu":
        return 1e3 * seconds(act, clock=time.process_time)

    def finished() -> None:
        act()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return 1e3 * seconds(finished)


def forward_backward(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
) -> None:
    found = function(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    learned = [x for x in inputs if x.requires_grad]
    torch.autograd.grad(outputs, learned, [torch.ones_like(y) for y in outputs])


def measure(part: Part, device: str) -> tuple[float, float, float]:
    """Milliseconds eager and compiled, medians of calls in turn, and seconds of compiling."""
    compiled = torch.compile(part.fused or part.eager, dynamic=False)
    first = seconds(partial(forward_backward, compiled, part.inputs))
    calls = [partial(forward_backward, way, part.inputs) for way in (part.eager, compiled)]
    pairs = in_turn(CALLS, *(partial(milliseconds, device, call) for call in calls))
    return pairs.first, pairs.second, first


def gradient_sums(tokens: int, dtype: torch.dtype, device: str) -> tuple[float, float]:
    """Milliseconds of adding up the gradient of the widest weight: product and sum, or one call."""
    x = torch.randn(tokens, HIDDEN, dtype=dtype, device=device)
    up = torch.randn(tokens, 4 * HIDDEN, dtype=dtype, device=device)
    total = torch.zeros(4 * HIDDEN, HIDDEN, dtype=dtype, device=device)
    ways = (lambda: total.add_(up.t() @ x), lambda: total.addmm_(up.t(), x))
    pairs = in_turn(CALLS, *(partial(milliseconds, device, way) for way in ways))
    return pairs.first, pairs.second


def step_milliseconds(tokens: int, dtype: torch.dtype, device: str) -> float:
    """Forward and backward of the whole network, GELU, no dropout; best of four."""
    flags = network(tokens, "--device", "cpu", layers=LAYERS, hidden=HIDDEN, heads=HEADS)
    config = parse_config(flags, 1)
    with torch.device("meta"):
        model = GPT(config.network, 512, kernel("sdpa"), 1)
    initialize(model, config.network, 1, torch.device(device))
    model.to(dtype)
    ids = torch.randint(512, (1, tokens), device=device)
    at, weights = torch.arange(tokens, device=device)[None], torch.ones(1, tokens, device=device)

    def act() -> None:
        model(ids, ids, weights, at).backward()

    return min(milliseconds(device, act) for _ in range(4))


def main(options: Namespace) -> None:
    if options.device == "cpu":
        torch.set_num_threads(1)
    columns = ("eager ms", ".2f"), ("compiled", ".2f"), ("ratio", ".2f"), ("compile s", ".1f")
    table = Table(("dtype", "<5"), ("part", "<22"), *columns)
    for name in options.dtypes:
        dtype, saved, spent = DTYPES[name], 0.0, 0.0
        for part in parts(options.tokens, dtype, options.device):
            eager, compiled, first = measure(part, options.device)
            table.row(name, part.name, eager, compiled, compiled / eager, first)
            if part.name in ("GELU", "rotary"):  # what the step below has, once a layer
                saved += LAYERS * (eager - compiled)
                spent += first
        two, one = gradient_sums(options.tokens, dtype, options.device)
        table.row(name, "gradient accumulation", two, one, one / two, None)
        step = step_milliseconds(options.tokens, dtype, options.device)
        table.row(name, "whole step, less both", step, step - saved, 1 - saved / step, spent)
