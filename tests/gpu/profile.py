"""Where the time of a step goes: by kernel and by kind, gaps, copies, synchronisations.

    python -m tests.gpu.profile --out profile.json [--within 120] [--networks GPT1_5B,GPT125M]
        [--tokens 8192] [--device cuda|cpu] [--tiny] [-- FLAGS]

Two steps of each network in bf16, nothing recomputed, one right after the other as in a training,
under torch.profiler; rows are means of a step. Beside the file of rows, NETWORK-profile.json has
the 20 longest kernels and the ten widest gaps with what the CPU did meanwhile, and
NETWORK-trace.json.gz the trace, for ui.perfetto.dev.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from longseq.config.checks import parse_config
from longseq.memory.recompute_policy import asked
from longseq.training.trainer import Trainer
from tests.gpu.networks import VOCABULARY, network, random_batch
from tests.gpu.results import Results, started, step_parser
from tests.gpu.trace import Trace, compress, group_of

MOST_BYTES = 10 * 2**20  # of a trace that is kept
STEPS, KERNELS, GAPS = 2, 20, 10


def name_parts(trainer: Trainer) -> None:
    """Show the parts of a step in the trace."""
    for name in ("forward_backward", "update"):
        setattr(trainer, name, record_function(name)(getattr(trainer, name)))


def traced(flags: list[str], tokens: int, device: str, file: Path) -> float:
    """Write the trace of some steps to `file`; returns milliseconds of one that nobody watches."""
    config = parse_config(flags, 1)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with Trainer(config, VOCABULARY, policy=asked(config, device=device)) as trainer:
        batch = random_batch(trainer, tokens)
        name_parts(trainer)
        began = 0.0
        for number in range(3 + STEPS):
            if number == 3:
                wait(device)
                began = time.perf_counter()
            trainer.step([batch])
        wait(device)
        milliseconds = (time.perf_counter() - began) * 1e3 / STEPS
        parts = schedule(wait=0, warmup=1, active=STEPS, repeat=1)  # the first starts what watches
        with profile(activities=activities, schedule=parts) as watching:
            for number in range(1 + STEPS):
                trainer.step([batch])
                if number in (0, STEPS):
                    wait(device)
                watching.step()
        watching.export_chrome_trace(str(file))
    return milliseconds


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def judge(results: Results, name: str, trace: Trace, alone: float, beside: Path | None) -> None:
    """The rows of one network, and its longer tables in a file."""
    start, end = trace.span
    span, (idle, gaps) = end - start, trace.gaps(GAPS)

    def mean(what: str, ms: float, **more: float) -> None:
        values = {key: value / STEPS for key, value in more.items()}
        results.row(f"{name}: {what}", "ok", "", ms=ms / STEPS, share=ms / span, **values)

    mean("step unwatched", alone * STEPS)
    mean("step", span, calls=len(trace.device))
    for group, ms, calls in trace.by_group():
        mean(group, ms, calls=calls)
    mean("no kernel", idle)
    for kind, ms, calls, mib in trace.copies():
        mean(kind, ms, calls=calls, MiB=mib)
    for call, ms, calls in trace.waits():
        mean(call, ms, calls=calls)
    found: dict[str, Any] = {
        "kernels": [
            {
                "name": kernel,
                "group": group_of(kernel),
                "ms": ms / STEPS,
                "calls": calls / STEPS,
            }
            for kernel, ms, calls in trace.by_kernel()[:KERNELS]
        ],
        "gaps": [asdict(gap) for gap in gaps],
    }
    for row in found["kernels"]:
        print(f"  {row['ms']:9.3f} ms {row['calls']:8.1f}  {row['group']:<10} {row['name'][:90]}")
    for row in found["gaps"]:
        print(f"  {row['ms']:9.3f} ms  gap before {row['after'][:50]}: {row['cpu'][:60]}")
    if beside:
        beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def keep(packed: bytes, target: Path) -> None:
    """Beside the rows, where it is small enough."""
    size = f"{len(packed) / 2**20:.1f} MiB"
    if len(packed) > MOST_BYTES:
        print(f"the trace has {size} and is not kept")
        return
    target.write_bytes(packed)
    print(f"{target}: the trace, {size}")


def main(argv: list[str]) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--networks", default="GPT1_5B,GPT125M")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("flags", nargs="*", help="more of the trainer's, after --")
    options = started(parser, argv)
    if options.tiny:
        options.networks, options.tokens = "TINY", 256
    results = Results(options.out, "what", "ms", "share", "calls", "MiB")
    kernel = "best" if options.device == "cuda" else "sdpa"
    usual = ["--bf16", "--recompute-granularity", "none", f"--use-flash-attn-{kernel}"]
    usual += ["--device", options.device, *options.flags]
    for key in options.networks.split(","):
        name = f"{key} {options.tokens}"
        if results.has(f"{name}: step"):
            continue
        with results.kept(name), tempfile.TemporaryDirectory() as folder:
            flags = network(key, options.tokens, *usual)
            file = Path(folder, "trace.json")
            alone = traced(flags, options.tokens, options.device, file)
            beside = options.out and options.out.with_name(f"{key}-profile.json")
            judge(results, name, Trace.read(file), alone, beside)
            if options.out:
                keep(compress(file), options.out.with_name(f"{key}-trace.json.gz"))
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
