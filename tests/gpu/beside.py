"""A training step of ours beside the same network's in plain PyTorch, compiled, and Hugging Face's.

    python -m tests.gpu.beside --out beside.json [--within 300] [--network GPT1_5B]
        [--lengths 2048,8192,…] [--who ours,compiled,plain,huggingface]

bf16, micro batch 1, clipping and fused AdamW in all. The others keep weights and optimizer state in
bf16 alone, 8 bytes a parameter, where ours keeps fp32 masters, 16 bytes: their memory and speed
are thus at their best. Each goes up the lengths until it runs out of memory; ratio is its seconds
over ours at the same length.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.anchors.plain import Plain, plain_step
from longseq.memory.recompute_policy import asked
from longseq.training.trainer import Trainer
from tests.gpu.networks import VOCABULARY, place, random_batch, shape
from tests.gpu.results import Results, step_parser
from tests.gpu.speed import config_of

Step = Callable[[], object]
ROWS = 128  # of the table, as ours pads it
LENGTHS = (2048, 8192, 16384, 24576, 32768, 49152, 65536)


def ours(key: str, longest: int, device: str) -> Callable[[int], Step]:
    """Nothing recomputed."""
    config = config_of(key, longest, "none", device, [])
    trainer = Trainer(config, VOCABULARY, place(device), asked(config, device=device))

    def at(tokens: int) -> Step:
        batch = random_batch(trainer, tokens)
        return lambda: trainer.step([batch])

    return at


def plain(key: str, longest: int, device: str, compiled: bool = False) -> Callable[[int], Step]:
    layers, hidden, heads = shape(key)
    with torch.device(device):
        model = Plain(layers, hidden, heads, ROWS).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if compiled:
        model.compile()

    def at(tokens: int) -> Step:
        ids = torch.randint(0, VOCABULARY, (1, tokens + 1), device=device)
        return lambda: plain_step(model, optimizer, ids)

    return at


def compiled(key: str, longest: int, device: str) -> Callable[[int], Step]:
    return plain(key, longest, device, compiled=True)


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


WHO = {"ours": ours, "compiled": compiled, "plain": plain, "huggingface": huggingface}


def seconds(step: Step, until: float) -> float:
    """Of one step: the median of up to ten, within six seconds."""
    step()
    step()
    times: list[float] = []
    while len(times) < 10 and sum(times) < 6 and (not times or time.monotonic() < until):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def tidy(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def climb(results: Results, who: str, lengths: list[int], options: argparse.Namespace) -> None:
    """Every length until memory ends."""
    key, device = options.network, options.device
    at = WHO[who](key, max(lengths), device)
    for tokens in lengths:
        what = f"{who} {tokens}"
        if results.has(what):
            continue
        if time.monotonic() > options.until:
            results.row(what, "not run", "no time was left", tokens=tokens)
            continue
        with results.kept(what, tokens=tokens):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            took = seconds(at(tokens), options.until)
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
            rows = [r for r in results.rows if r["what"] == f"ours {tokens}" and "seconds" in r]
            ratio = {"ratio": took / rows[0]["seconds"]} if rows else {}
            results.row(what, "ok", tokens=tokens, seconds=took, GiB=peak, **ratio)
        if results.rows[-1]["verdict"] != "ok":
            break  # what is longer needs more


def main(argv: list[str]) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--network", default="GPT1_5B")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--who", default=",".join(WHO))
    options = parser.parse_args(argv)
    if options.tiny:
        options.network, options.lengths = "TINY", "128,256"
    options.until = time.monotonic() + options.within if options.within else math.inf
    results = Results(options.out, "tokens", "seconds", "ratio", "GiB")
    for who in options.who.split(","):
        with results.kept(who):
            climb(results, who, [int(word) for word in options.lengths.split(",")], options)
        tidy(options.device)
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
