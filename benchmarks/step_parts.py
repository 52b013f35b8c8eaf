"""Where a step's time goes, and its speed beside that of the machine's own matmul.

    python benchmarks/step_parts.py [--hidden 768] [--tokens 2048] [--threads 2] [--steps 5] [FLAGS]

One fp32 rank, 4 layers. Time inside attention and matmul kernels is what torch's profiler counts as
theirs; all else (norms, pointwise, loss, optimizer, DeepSpeed, Python) is the rest. Speed is that
of steps without the profiler, in operations of the model (causal attention, no recomputation),
against the best rate of the matmuls of this network, taken in between; both also by the time that
the threads ran, which other programs disturb less. Bars: rest at most 20 %, speed at least 0.65 of
the matmul's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from longseq.config.checks import parse_config  # noqa: E402
from longseq.engine.distributed import start_distributed  # noqa: E402
from longseq.training.feed import MicroBatch  # noqa: E402
from longseq.training.trainer import Trainer  # noqa: E402

VOCABULARY, LAYERS = 16, 4
MATMUL = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmm_")
ATTENTION = "scaled_dot_product"


def make_step(hidden: int, tokens: int, flags: list[str]) -> Callable[[], float]:
    """A training step of the real engine on random tokens."""
    network = f"--num-layers {LAYERS} --hidden-size {hidden} --num-attention-heads {hidden // 64}"
    words = f"{network} --seq-length {tokens} --use-rotary-position-embeddings --device cpu"
    config = parse_config([*words.split(), "--use-flash-attn-sdpa", "--lr", "1e-3", *flags], 1)
    trainer = Trainer(config, VOCABULARY)
    sample = torch.randint(0, VOCABULARY, (1, tokens + 1))
    weights, positions = torch.full((1, tokens), 1 / tokens), torch.arange(tokens)[None]
    batch = MicroBatch(sample[:, :-1], sample[:, 1:], weights, positions, None)
    return lambda: trainer.step([batch]).loss


def operations(hidden: int, tokens: int) -> float:
    """Of forward and backward: 6 for each weight and token, and the causal half of attention."""
    weights = LAYERS * 12 * hidden**2 + 128 * hidden
    return 6.0 * tokens * weights + 6.0 * LAYERS * hidden * tokens**2


Times = tuple[float, float]  # seconds by the clock, and of the process's threads together


def timed(work: Callable[[], object]) -> Times:
    clock, threads = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - threads


def matmul_rates(hidden: int, tokens: int) -> Times:
    """Operations a second of the network's own widest matmul, the best of some tries."""
    x, w = torch.randn(tokens, hidden), torch.randn(hidden, 4 * hidden)
    clock, threads = zip(*(timed(lambda: x @ w) for _ in range(20)), strict=True)
    return 8.0 * tokens * hidden**2 / min(clock), 8.0 * tokens * hidden**2 / min(threads)


def parts(step: Callable[[], float], steps: int) -> dict[str, float]:
    """Seconds a step in matmul, in attention, and in each other operation, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        whole = time.perf_counter() - began
    times: dict[str, float] = {}
    for event in found.key_averages():
        name = event.key
        if name in MATMUL:
            name = "matmul"
        elif ATTENTION in name:
            name = "attention"
        times[name] = times.get(name, 0.0) + event.self_cpu_time_total / 1e6 / steps
    times["not in operations"] = max(0.0, whole / steps - sum(times.values()))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    args, flags = parser.parse_known_args()
    torch.set_num_threads(args.threads)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("MASTER_PORT", "29745"))
    start_distributed(torch.device("cpu"))
    step = make_step(args.hidden, args.tokens, flags)
    for _ in range(2):
        step()
    rates, times = [matmul_rates(args.hidden, args.tokens)], []
    for _ in range(args.steps):
        times.append(timed(step))
        rates.append(matmul_rates(args.hidden, args.tokens))
    seconds = [statistics.median(column) for column in zip(*times, strict=True)]
    peaks = [statistics.median(column) for column in zip(*rates, strict=True)]
    work = operations(args.hidden, args.tokens)
    for name, second, peak in zip(("clock", "threads"), seconds, peaks, strict=True):
        rate = work / second
        print(f"by the {name:>7}: step {second:.3f} s, {rate / 1e9:.0f} GFLOP/s;", end=" ")
        print(f"a matmul's {peak / 1e9:.0f}; {rate / peak:.2f}", flush=True)
    found = parts(step, args.steps)
    whole = sum(found.values())
    rest = whole - found["matmul"] - found["attention"]
    print(f"matmul {found['matmul'] / whole:.1%}, attention", end=" ")
    print(f"{found['attention'] / whole:.1%}, all else {rest / whole:.1%}, of which")
    for name, time_of in sorted(found.items(), key=lambda item: -item[1])[:14]:
        if name not in ("matmul", "attention"):
            print(f"{time_of / whole:7.1%} {name}")


if __name__ == "__main__":
    main()
