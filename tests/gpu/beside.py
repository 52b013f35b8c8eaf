"""A training step of ours beside the same network's in plain PyTorch, compiled, and Hugging Face's.

    python -m tests.gpu.beside --out beside.json [--within 300] [--lengths 2048 8192]

GPT1_5B in bf16, micro batch 1, clipping and fused AdamW in all. The others keep weights and
optimizer state in bf16 alone, 8 bytes a parameter, where ours keeps fp32 masters, 16 bytes: their
memory and speed are thus at their best; compiled-masters keeps fp32 weights too, by autocast. Ours
recomputes nothing; ratio is the seconds of another over ours at the same length. Plain PyTorch is
compiled layer by layer, for each length anew; whole, which takes minutes, at 8,192 tokens last.
Then the longest sequence with 40 GiB (an A100's, here of a larger GPU): compiled PyTorch to 2,048
tokens, and ours at eight times that.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch

from benchmarks.anchors.plain import Plain, plain_step
from longseq.memory.recompute_policy import asked
from longseq.training.trainer import Trainer
from tests.gpu.networks import VOCABULARY, random_batch, shape
from tests.gpu.results import CUT_OFF, Results, started, step_parser
from tests.gpu.speed import config_of

Step = Callable[[], object]
closing: list[Callable[[], None]] = []  # what holds memory until it is closed
ROWS = 128  # of the table, as ours pads it
LENGTHS = (2048, 8192, 16384, 32768)
LIMIT = 40.0  # GiB
TINY = (128, 256)
CLIMB = range(8192, 40960, 2048)
TIMES = 8


def ours(key: str, longest: int, device: str, way: str = "none") -> Callable[[int], Step]:
    config = config_of(key, longest, way, device, [])
    trainer = Trainer(config, VOCABULARY, policy=asked(config, device=device))

    def at(tokens: int) -> Step:
        batch = random_batch(trainer, tokens)
        return lambda: trainer.step([batch])

    closing.append(trainer.close)
    return at


def plain(
    key: str, longest: int, device: str, compiled: str = "", masters: bool = False
) -> Callable[[int], Step]:
    """compiled: layers, or whole. masters: weights in fp32, cast to bf16 where they are used."""
    layers, hidden, heads = shape(key)
    with torch.device(device):
        model = Plain(layers, hidden, heads, ROWS)
    if not masters:
        model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if compiled == "whole":
        model.compile()
    for layer in model.layers if compiled == "layers" else ():
        layer.compile(dynamic=False)

    def at(tokens: int) -> Step:
        ids = torch.randint(0, VOCABULARY, (1, tokens + 1), device=device)

        def step() -> float:
            with torch.autocast(device, torch.bfloat16, enabled=masters):
                return plain_step(model, optimizer, ids)

        return step

    return at


def compiled(key: str, longest: int, device: str) -> Callable[[int], Step]:
    torch._dynamo.config.recompile_limit = 64  # a length is one
    return plain(key, longest, device, "layers")


def compiled_masters(key: str, longest: int, device: str) -> Callable[[int], Step]:
    torch._dynamo.config.recompile_limit = 64
    return plain(key, longest, device, "layers", masters=True)


def compiled_whole(key: str, longest: int, device: str) -> Callable[[int], Step]:
    return plain(key, longest, device, "whole")


def huggingface(key: str, longest: int, device: str) -> Callable[[int], Step]:
    """GPT-NeoX, which is our default network; by flash-attn where that is installed."""
    import importlib.util

    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    layers, hidden, heads = shape(key)
    flash = device == "cuda" and importlib.util.find_spec("flash_attn") is not None
    settings: dict[str, Any] = {
        "vocab_size": ROWS,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": longest,
        "hidden_act": "gelu_new",
        "rotary_pct": 1.0,
        "use_parallel_residual": False,
        "tie_word_embeddings": True,
        "use_cache": False,
        "attn_implementation": "flash_attention_2" if flash else "sdpa",
    }
    config = GPTNeoXConfig(**settings)
    with torch.device(device):
        model = GPTNeoXForCausalLM(config).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def at(tokens: int) -> Step:
        ids = torch.randint(0, VOCABULARY, (1, tokens), device=device)

        def step() -> float:
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            return float(loss.detach())

        return step

    return at


WHO = {
    "ours": ours,
    "compiled": compiled,
    "compiled-masters": compiled_masters,
    "plain": plain,
    "huggingface": huggingface,
    "compiled-whole": compiled_whole,
}


def seconds(step: Step, until: float, once: bool = False) -> float:
    """Of one step: the median of up to ten, within three seconds; `once`: of the first."""
    times: list[float] = []
    while len(times) < 12 and sum(times[2:]) < 3 and (len(times) < 3 or time.monotonic() < until):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
        if once:
            return times[0]
    return statistics.median(times[2:])


def tidy(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


def compare(results: Results, who: str, options: argparse.Namespace) -> None:
    """Every length until memory ends."""
    usual: Sequence[int] = (8192,) if who == "compiled-whole" else LENGTHS
    lengths = options.lengths or (TINY if options.tiny else usual)
    left = [tokens for tokens in lengths if not results.has(f"{who} {tokens}")]
    for alike in one_network(who, left, options):
        if not measure(results, who, alike, options):
            break
        tidy(options.device)


def one_network(
    who: str, lengths: Sequence[int], options: argparse.Namespace
) -> list[tuple[int, ...]]:
    """The lengths that one network can do: ours has another kernel where layers are short."""

    def kernel(tokens: int) -> str:
        if who != "ours":
            return ""
        return config_of(options.network, tokens, "none", options.device).memory.kernel

    return [tuple(alike) for _, alike in groupby(lengths, kernel)]


def measure(
    results: Results, who: str, lengths: Sequence[int], options: argparse.Namespace
) -> bool:
    """These lengths by one network; whether all had the memory that they need."""
    at = WHO[who](options.network, max(lengths), options.device)
    for tokens in lengths:
        what = f"{who} {tokens}"
        if time.monotonic() > options.until:
            sys.exit(CUT_OFF)  # the next call goes on here
        tidy(options.device)
        with results.kept(what, tokens=tokens):
            took = seconds(at(tokens), options.until)
            rows = [r for r in results.rows if r["what"] == f"ours {tokens}" and "seconds" in r]
            ratio = {"ratio": took / rows[0]["seconds"]} if rows else {}
            gib = peak_gib(options.device)
            results.row(what, "ok", tokens=tokens, seconds=took, GiB=gib, **ratio)
        if results.rows[-1]["verdict"] != "ok":
            break  # what is longer needs more
    while closing:
        closing.pop()()
    return bool(results.rows[-1]["verdict"] == "ok")


def longest(results: Results, options: argparse.Namespace) -> None:
    """With less memory: how far compiled PyTorch goes, and whether ours goes eight times as far."""
    name = f"with {LIMIT:.0f} GiB"
    total = torch.cuda.mem_get_info()[1] / 2**30
    torch.cuda.set_per_process_memory_fraction(min(1.0, LIMIT / total))
    what = f"compiled, longest {name}"
    if not results.has(what):
        at = compiled(options.network, max(CLIMB), options.device)
        reached = most(CLIMB, lambda tokens: fits(at(tokens), options.device))
        results.row(what, "ok", tokens=reached)
        del at
    tidy(options.device)
    reached = next(row["tokens"] for row in results.rows if row["what"] == what)
    tokens = TIMES * reached
    what = f"ours, {TIMES} times as long {name}"
    with results.kept(what, tokens=tokens):
        took = seconds(ours(options.network, tokens, options.device, "least")(tokens), 0, once=True)
        results.row(what, "ok", tokens=tokens, seconds=took, GiB=peak_gib(options.device))
    while closing:
        closing.pop()()
    torch.cuda.set_per_process_memory_fraction(1.0)


def fits(step: Step, device: str) -> bool:
    """Whether a step finds the memory that it needs."""
    try:
        step()
    except torch.OutOfMemoryError:
        return False
    finally:
        tidy(device)
    return True


def most(among: Sequence[int], good: Callable[[int], bool]) -> int:
    """The last of `among` that is good, where no one after the first bad is; 0: none is."""
    low, high = 0, len(among)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if good(among[middle]) else (low, middle)
    return among[low - 1] if low else 0


def main(argv: list[str]) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--network", default="GPT1_5B")
    parser.add_argument(
        "--who", default="ours,compiled,compiled-masters,longest,plain,huggingface,compiled-whole"
    )
    parser.add_argument("--lengths", type=int, nargs="+", help="in place of the usual ones")
    options = started(parser, argv)
    if options.tiny:
        options.network = "TINY"
    options.until = time.monotonic() + options.within if options.within else math.inf
    results = Results(options.out, "tokens", "seconds", "ratio", "GiB")
    for who in options.who.split(","):
        with results.kept(who):
            if who != "longest":
                compare(results, who, options)
            elif options.device == "cuda":
                longest(results, options)
        tidy(options.device)
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
