"""Speed and memory of one GPU by length: TFLOPS in both countings, MFU, peak beside the plan.

    python -m tests.gpu.speed --out speed.json [--within 300] [--only GPT1_5B] [-- FLAGS]

A row is one network at one length, in bf16, micro batch 1: with nothing recomputed, with what the
trainer chooses, or with all that saves memory (layers recomputed, their inputs in host memory);
"pointwise" and "tuned" say what norms made again cost, and what torch gains where it tries its
compiled kernels in more ways (minutes of compiling).
GPT1_5B/12 is GPT1_5B with 12 heads of 128 in place of 24 of 64: as many weights and FLOPs. One
trainer takes all lengths of a cell, the short ones first. MFU is the causal counting over the
maker's peak. Short layers take another kernel (longseq/config/kernels.py): a trainer of their own.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch._inductor.config

from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.config.kernels import this_machine, with_kernel
from longseq.errors import UserError
from longseq.host.host_memory import peak_memory_gib, reset_peak
from longseq.memory.choosing import choose
from longseq.memory.need import needed
from longseq.memory.recompute_policy import RecomputePolicy, asked
from longseq.planning.gpus import GPUS, Gpu
from longseq.run.throughput import again, rates
from longseq.training.trainer import Trainer
from tests.gpu.networks import VOCABULARY, network, random_batch
from tests.gpu.results import CUT_OFF, Results, started, step_parser

WAYS = {
    "none": ("--recompute-granularity", "none"),
    "chosen": (),
    "pointwise": ("--recompute-granularity", "pointwise"),
    "tuned": ("--recompute-granularity", "none"),
    "least": ("--recompute-granularity", "full", "--checkpoint-in-cpu"),
}


class Cell(NamedTuple):
    """One trainer's measurements; `kernel` is an attention kernel's name, or best."""

    network: str
    way: str
    lengths: tuple[int, ...]
    kernel: str = "best"

    @property
    def title(self) -> str:
        return self.way + (f", {self.kernel}" if self.kernel != "best" else "")


# In the order of their worth
CELLS = (
    Cell("GPT1_5B", "none", (8192, 32768)),
    Cell("GPT1_5B", "none", (2048,)),
    Cell("GPT1_5B/12", "chosen", (65536,)),
    Cell("GPT1_5B", "chosen", (65536,)),
    *(Cell("GPT1_5B", "none", (8192,), kernel) for kernel in ("v3", "v4", "cudnn")),
    Cell("GPT1_5B/12", "none", (8192,)),
    *(Cell("GPT1_5B/12", "chosen", (65536,), kernel) for kernel in ("v3", "v4", "cudnn")),
    Cell("GPT125M", "none", (32768, 131072)),
    Cell("GPT125M", "none", (2048, 8192)),
    Cell("GPT1_5B", "pointwise", (8192,)),
    Cell("GPT1_5B", "least", (65536, 262144)),
    Cell("GPT1_5B", "chosen", (131072,)),
    Cell("GPT1_5B", "tuned", (8192,)),
)
TINY = (
    Cell("TINY", "none", (256, 512)),
    Cell("TINY", "tuned", (256,)),
    Cell("TINY", "chosen", (512,), "sdpa"),
    Cell("TINY", "none", (256,), "v4"),
)
COLUMNS = ("tokens", "recomputed", "seconds", "TFLOPS", "model_TFLOPS", "MFU", "GiB", "planned_GiB")


def gpu_here() -> Gpu | None:
    """What the table of GPUs knows of this one."""
    if not torch.cuda.is_available():
        return None
    name, gib = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1] / 2**30
    alike = [gpu for gpu in GPUS.values() if gpu.title.split()[0].lower() in name.lower()]
    return min(alike, key=lambda gpu: abs(gpu.gib - gib), default=None)


def config_of(
    key: str, tokens: int, way: str, device: str, more: Sequence[str] = (), kernel: str = "best"
) -> Config:
    """Raises UserError where this machine has no such kernel."""
    words = network(key, tokens, *WAYS[way], "--device", device, *more)
    if not any(word.startswith("--use-flash-attn") for word in more):
        words.append(f"--use-flash-attn-{kernel}")
    config = parse_config([*words, "--bf16"], 1)
    return with_kernel(config, this_machine())


def steps(trainer: Trainer, tokens: int, until: float) -> tuple[list[float], float]:
    """Seconds of each timed step, and the peak in GiB: as many as ten, one where time is short."""
    batch = random_batch(trainer, tokens)
    times: list[float] = []
    cuda = trainer.device.type == "cuda"
    for _ in range(2):  # compiles, and makes the optimizer's state
        began = time.perf_counter()
        trainer.step([batch])
        if time.monotonic() + 2 * (time.perf_counter() - began) > until:
            break
    reset_peak()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    while len(times) < 10 and (not times or time.monotonic() + times[-1] < until):
        began = time.perf_counter()
        trainer.step([batch])  # ends with a read of the loss
        times.append(time.perf_counter() - began)
        if sum(times) > 3:
            break
    return times, peak_memory_gib(trainer.device.type)


def policy_of(config: Config, way: str, options: argparse.Namespace) -> RecomputePolicy:
    """What the way recomputes at this length."""
    if way != "chosen":
        return asked(config, device=options.device)
    return choose(config, VOCABULARY, options.available, options.device)


def best_of(cell: Cell, device: str) -> str:
    """The attention kernel that "best" means for a cell."""
    return config_of(cell.network, max(cell.lengths), cell.way, device).memory.kernel


def measure(results: Results, cell: Cell, options: argparse.Namespace) -> None:
    """One cell; what is there already is not measured again."""
    until, device = options.until, options.device
    names = {tokens: f"{cell.network} {tokens} {cell.title}" for tokens in cell.lengths}
    left = {tokens: what for tokens, what in names.items() if not results.has(what)}
    if not left:
        return
    try:
        config = config_of(
            cell.network, max(left), cell.way, device, options.flags, kernel=cell.kernel
        )
    except UserError as error:
        for what in left.values():
            results.row(what, "not run", str(error))
        return
    if config.memory.kernel == cell.kernel == best_of(cell, options.device):
        return  # measured as the best
    policy = policy_of(config, cell.way, options)
    with Trainer(config, VOCABULARY, policy=policy) as trainer:
        for tokens, what in left.items():
            if time.monotonic() > until:
                sys.exit(CUT_OFF)  # the next call goes on here
            with results.kept(what, tokens=tokens):
                times, peak = steps(trainer, tokens, until)
                here = replace(config, network=replace(config.network, seq_length=tokens))
                values = figures(here, policy, statistics.median(times), device)
                results.row(
                    what, "ok", kernel=config.memory.kernel, GiB=peak, steps=len(times), **values
                )
            if results.rows[-1]["verdict"] != "ok":
                break  # what is longer needs more


def recomputed(policy: RecomputePolicy) -> str:
    """A word or two."""
    if policy.recompute in ("none", "pointwise"):
        return {"none": "nothing", "pointwise": "pointwise"}[policy.recompute]
    layers = f"{policy.layers} layers" if policy.method == "block" else "all layers"
    which = layers if policy.recompute == "full" else f"{layers} but attention"
    which += ", others pointwise" if policy.rest == "pointwise" else ""
    return which + (", inputs on the host" if policy.inputs_on_host else "")


def figures(config: Config, policy: RecomputePolicy, seconds: float, device: str) -> dict[str, Any]:
    """What a row says of a step of so many seconds."""
    tokens, gpu = config.network.seq_length, gpu_here()
    speed = rates(
        config.network,
        VOCABULARY,
        batch=1,
        seq_length=tokens,
        ranks=1,
        more=again(policy.recompute, policy.part(config.network.num_layers)),
        seconds=seconds,
    )
    planned = needed(config, VOCABULARY, policy, device).tensors / 2**30
    return {
        "tokens": tokens,
        "recomputed": recomputed(policy),
        "seconds": seconds,
        "TFLOPS": speed.tflops,
        "model_TFLOPS": speed.model_tflops,
        "MFU": speed.model_tflops * 1e12 / gpu.peak("bf16") if gpu else 0.0,
        "planned_GiB": planned,
    }


def main(argv: list[str]) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--only", help="one network")
    parser.add_argument("flags", nargs="*", help="more of the trainer's, after --")
    options = started(parser, argv)
    options.until = time.monotonic() + options.within if options.within else math.inf
    results = Results(options.out, *COLUMNS)
    cuda = options.device == "cuda"
    options.available = torch.cuda.mem_get_info()[0] if cuda else 8 * 2**30
    for cell in TINY if options.tiny else CELLS:
        if options.only not in (None, cell.network):
            continue
        torch._dynamo.reset()  # what was compiled for another way
        tuning = torch._inductor.config.patch(coordinate_descent_tuning=cell.way == "tuned")
        with results.kept(f"{cell.network} {cell.title}"), tuning:
            measure(results, cell, options)
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
    return results.exit_code


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
    sys.exit(code)
