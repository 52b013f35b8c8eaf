"""Does torch.compile of a layer's pointwise parts pay? Forward and backward, in turn with eager.

    python benchmarks/pointwise.py [--device cpu|cuda] [--dtypes fp32,bf16] [--tokens 2048]

Hidden 768, 12 heads of 64, MLP 3072 (2048 with SwiGLU). Eager is what the trainer runs, where the
matmul adds the bias; "bias + GELU" takes it out of there in both. Compiled dropout has torch's own
random numbers, which recomputation and other layouts would not repeat. "compile" is the first call,
which each rank waits for. On a CPU milliseconds are of one thread's CPU time, which other programs
disturb less than the clock's. "gradient accumulation" is a weight's gradient, added up by a product
and a sum as autograd does, and by one call ("compiled"). A last line holds what compiled GELU and
rotary would save of a training step of 4 such layers (vocabulary 512).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from longseq.attention.kernel import kernel  # noqa: E402
from longseq.config.checks import parse_config  # noqa: E402
from longseq.engine.initialize import initialize  # noqa: E402
from longseq.model.dropout import Dropout  # noqa: E402
from longseq.model.gpt import GPT  # noqa: E402
from longseq.model.rotary import rotary_table, rotate  # noqa: E402

HIDDEN, HEADS, LAYERS = 768, 12, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FLAGS = (
    "--num-layers 4 --hidden-size 768 --num-attention-heads 12 --use-rotary-position-embeddings"
    " --use-flash-attn-sdpa --device cpu"
)
DROPOUT = Dropout(0.1, 1, 0)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias, approximate="tanh")


def swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


def dropout_add_eager(x: Tensor, y: Tensor) -> Tensor:
    return x + DROPOUT(y, 0)


def dropout_add_fused(x: Tensor, y: Tensor) -> Tensor:
    return x + F.dropout(y, 0.1)


def rotary_eager(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotate(x, (cos, sin))


def rotary_fused(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, 1e-5)


class Part(NamedTuple):
    """A pointwise part as the trainer runs it, the same for the compiler, and its inputs."""

    name: str
    eager: Callable[..., Tensor]
    fused: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def parts(tokens: int, dtype: torch.dtype, device: str) -> list[Part]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)

    table = rotary_table(torch.arange(tokens, device=device)[None], HIDDEN // HEADS, 1e4)
    x, y, wide = draw(tokens, 1, HIDDEN), draw(tokens, 1, HIDDEN), draw(tokens, 1, 4 * HIDDEN)
    turning = draw(tokens, 1, 2 * HEADS, HIDDEN // HEADS)
    return [
        Part("GELU", gelu, gelu, (wide,)),
        Part("bias + GELU", bias_gelu, bias_gelu, (wide, draw(4 * HIDDEN))),
        Part("SwiGLU", swiglu, swiglu, (draw(tokens, 1, 4096),)),
        Part("dropout + add", dropout_add_eager, dropout_add_fused, (x, y)),
        Part("LayerNorm", layer_norm, layer_norm, (x, draw(HIDDEN), draw(HIDDEN))),
        Part("RMSNorm", rms_norm, rms_norm, (x, draw(HIDDEN))),
        Part("rotary", rotary_eager, rotary_fused, (turning, *table)),
    ]


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(act: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    wait(device)
    began = clock()
    act()
    wait(device)
    return (clock() - began) * 1e3


def there_and_back(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    y = function(*inputs)
    learned = [x for x in inputs if x.requires_grad]
    torch.autograd.grad(y, learned, torch.ones_like(y))


def measure(part: Part, device: str) -> tuple[float, float, float]:
    """Milliseconds eager and compiled, medians of calls in turn, and seconds of compiling."""
    compiled = torch.compile(part.fused, dynamic=False)
    began = time.perf_counter()
    there_and_back(compiled, part.inputs)
    first = time.perf_counter() - began
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(21):
        for function, found in zip((part.eager, compiled), times, strict=True):
            found.append(
                milliseconds(lambda f=function: there_and_back(f, part.inputs), device)  # type: ignore[misc]
            )
    return statistics.median(times[0]), statistics.median(times[1]), first


def gradient_sums(tokens: int, dtype: torch.dtype, device: str) -> tuple[float, float]:
    """Milliseconds of adding up the gradient of the widest weight: product and sum, or one call."""
    x = torch.randn(tokens, HIDDEN, dtype=dtype, device=device)
    up = torch.randn(tokens, 4 * HIDDEN, dtype=dtype, device=device)
    total = torch.zeros(4 * HIDDEN, HIDDEN, dtype=dtype, device=device)
    ways = (lambda: total.add_(up.t() @ x), lambda: total.addmm_(up.t(), x))
    times = [[milliseconds(way, device) for way in ways] for _ in range(21)]
    two, one = (statistics.median(column) for column in zip(*times, strict=True))
    return two, one


def step_milliseconds(tokens: int, dtype: torch.dtype, device: str) -> float:
    """Forward and backward of the whole network, GELU, no dropout; best of three."""
    config = parse_config([*FLAGS.split(), "--seq-length", str(tokens)], 1)
    with torch.device("meta"):
        model = GPT(config.network, 512, kernel("sdpa"), 1)
    initialize(model, config.network, 1, torch.device(device))
    model.to(dtype)
    ids = torch.randint(512, (1, tokens), device=device)
    at, weights = torch.arange(tokens, device=device)[None], torch.ones(1, tokens, device=device)
    return min(
        milliseconds(lambda: model(ids, ids, weights, at).backward(), device) for _ in range(4)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--tokens", type=int, default=2048)
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    print(f"{'':<6} {'part':<22} {'eager ms':>8} {'compiled':>8} {'ratio':>6} {'compile s':>9}")
    for name in args.dtypes.split(","):
        dtype, saved, spent = DTYPES[name], 0.0, 0.0
        for part in parts(args.tokens, dtype, args.device):
            eager, compiled, first = measure(part, args.device)
            row = f"{name:<6} {part.name:<22} {eager:>8.2f} {compiled:>8.2f}"
            print(f"{row} {compiled / eager:>6.2f} {first:>9.1f}", flush=True)
            if part.name in ("GELU", "rotary"):  # what the step below has, once a layer
                saved += LAYERS * (eager - compiled)
                spent += first
        two, one = gradient_sums(args.tokens, dtype, args.device)
        print(f"{name:<6} {'gradient accumulation':<22} {two:>8.2f} {one:>8.2f} {one / two:>6.2f}")
        step = step_milliseconds(args.tokens, dtype, args.device)
        print(f"{name:<6} a step takes {step:.0f} ms; compiled GELU and rotary would save", end=" ")
        print(f"{saved:.0f} ms ({saved / step:.1%}) after {spent:.0f} s of compiling", flush=True)


if __name__ == "__main__":
    main()
