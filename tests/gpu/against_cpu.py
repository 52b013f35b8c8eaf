"""Step 2: the same training on the GPU and on the CPU: losses and norms of five updates.

    python -m tests.gpu.against_cpu [--device cuda|cpu] [--out FILE]

The CPU's side is a process of its own, which works at the same time: attention written out (the
core kernel) where the GPU's has torch's flash kernels. In fp32, without TF32, both must agree to
1e-4. Below fp32 the CPU's fp32 training is the reference, and the GPU may be no farther from it
than twice the CPU's bf16 training is. In fp16 the loss scale begins so high that updates must be
left out. Dropout draws other numbers on a GPU: there a second run must repeat the first, and the
loss must fall. With --device cpu both sides are the CPU, with different attention kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import torch

from tests.gpu.results import Results, step_options
from tests.gpu.training import Found, largest_difference, train

ROOT = Path(__file__).parents[2]
STEPS = 5
COMMON = """
    --num-layers 2 --hidden-size 256 --num-attention-heads 8 --seq-length 384 --micro-batch-size 2
    --global-batch-size 4 --lr 1e-3 --lr-decay-style constant --recompute-granularity none
""".split()
FLASH = "--use-flash-attn-sdpa --compile off"  # what the GPU's side has and the CPU's has not
BEST = "--use-flash-attn-best --compile on"
CLOSE = 1e-4  # fp32
LEAST_LOSS, LEAST_NORM = 1e-3, 1e-2  # differences that rounding alone may make below fp32
OVERFLOWS = {"fp16": {"initial_scale_power": 26, "hysteresis": 1}}


@dataclass(frozen=True)
class Case:
    """A configuration. gpu: more flags of the GPU's side."""

    flags: str
    vocabulary: int = 1000
    documents: bool = False
    half: str = ""  # bf16 or fp16
    dropout: bool = False
    gpu: str = FLASH


ROTARY = "--use-rotary-position-embeddings"
CASES = {
    "plain": Case(ROTARY),
    "GQA, SwiGLU, RMSNorm": Case(
        f"{ROTARY} --num-key-value-heads 2 --swiglu --normalization rmsnorm --disable-bias-linear"
    ),
    "learned positions": Case(""),
    "documents": Case(ROTARY, documents=True),
    "head of its own": Case(f"{ROTARY} --untie-embeddings-and-output-weights"),
    "5 letters": Case(ROTARY, vocabulary=5),
    "ZeRO 1": Case(f"{ROTARY} --zero-stage 1"),
    "ZeRO 2": Case(f"{ROTARY} --zero-stage 2"),
    "ZeRO 3": Case(f"{ROTARY} --zero-stage 3"),
    "bf16": Case(ROTARY, half="bf16"),
    "bf16, ZeRO 1": Case(f"{ROTARY} --zero-stage 1", half="bf16"),
    "bf16, documents": Case(ROTARY, documents=True, half="bf16"),
    "compiled": Case(f"{ROTARY} --num-key-value-heads 2 --swiglu", gpu=BEST),
    "bf16, compiled, best kernel": Case(ROTARY, half="bf16", gpu=BEST),
    "fp16": Case(ROTARY, half="fp16"),
    "fp16, ZeRO 2": Case(f"{ROTARY} --zero-stage 2", half="fp16"),
    "dropout": Case(f"{ROTARY} --hidden-dropout 0.1 --attention-dropout 0.1", dropout=True),
}


def run(case: Case, device: str, more: Sequence[str] = ()) -> Found:
    """The case on one device, with `more` flags."""
    flags = [*COMMON, *case.flags.split(), *more]
    return train(flags, device, STEPS, case.vocabulary, case.documents)


# ---------------------------------------------------------------- the CPU's side


def reference(names: Sequence[str]) -> None:
    """Print what the CPU finds, a line a case: in fp32, and where half precision is asked for in
    bf16 as well."""
    for name in names:
        case = CASES[name]
        found = [run(case, "cpu")] + ([run(case, "cpu", ["--bf16"])] if case.half else [])
        print(json.dumps({"case": name, "found": [asdict(each) for each in found]}), flush=True)


@contextmanager
def other_side(names: Sequence[str]) -> Iterator[IO[str]]:
    """The lines of `reference`, from a process that no GPU is shown to."""
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "tests.gpu.against_cpu", "--reference", json.dumps(names)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=hidden, cwd=ROOT, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()


def next_found(lines: IO[str], name: str) -> list[Found]:
    """What the CPU's side found of case `name`; what is printed before that is passed over."""
    for line in lines:
        if line.startswith('{"case"'):
            said = json.loads(line)
            if said["case"] == name:
                return [Found(**found) for found in said["found"]]
    raise RuntimeError("the CPU's side has ended without this case: what it said is above")


# ---------------------------------------------------------------- the comparison


def compare(results: Results, name: str, mine: Found, theirs: Sequence[Found]) -> None:
    """A row: how far losses and norms are from the CPU's in fp32."""
    case, exact = CASES[name], theirs[0]
    loss = largest_difference(mine.losses, exact.losses)
    norm = largest_difference(mine.norms, exact.norms)
    allowed_loss = allowed_norm = CLOSE
    why = ""
    if case.half:
        rounded = theirs[1]
        allowed_loss = max(2 * largest_difference(rounded.losses, exact.losses), LEAST_LOSS)
        allowed_norm = max(2 * largest_difference(rounded.norms, exact.norms), LEAST_NORM)
    if case.half == "fp16" and not mine.skipped:
        why = "no update was left out: the loss scale did not act"
    if loss > allowed_loss or norm > allowed_norm:
        why = f"allowed: loss {allowed_loss:.1e}, norm {allowed_norm:.1e}; {mine} against {exact}"
    more = {"left out": mine.skipped} if case.half == "fp16" else {}
    results.row(name, "wrong" if why else "ok", why, loss=loss, norm=norm, **more)


def repeats(results: Results, name: str, device: str) -> None:
    """A row for what draws random numbers: two runs are the same, and the loss falls."""
    first, second = (run(CASES[name], device, CASES[name].gpu.split()) for _ in range(2))
    loss = largest_difference(second.losses, first.losses)
    norm = largest_difference(second.norms, first.norms)
    why = "" if max(loss, norm) <= CLOSE else "a second run was another"
    if first.losses[-1] >= first.losses[0]:
        why = f"the loss did not fall: {first.losses}"
    results.row(name, "wrong" if why else "ok", why, loss=loss, norm=norm)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    torch.set_float32_matmul_precision("highest")
    if words[:1] == ["--reference"]:
        reference(json.loads(words[1]))
        return 0
    options = step_options(__doc__, words)
    device = options.device
    results = Results(options.out, "loss", "norm", "left out")
    left = [name for name in CASES if not results.has(name)]
    shown = [name for name in left if device == "cuda" or why_not_on_cpu(CASES[name]) == ""]
    compared = [name for name in shown if not CASES[name].dropout]
    with tempfile.TemporaryDirectory() as folder, other_side(compared) as lines:
        overflows = Path(folder, "overflows.json")
        overflows.write_text(json.dumps(OVERFLOWS), encoding="utf-8")
        precision = {"": [], "bf16": ["--bf16"]}
        precision["fp16"] = ["--fp16", "--deepspeed-overrides", str(overflows)]
        for name in left:
            case = CASES[name]
            if name not in shown:
                results.row(name, "not run", why_not_on_cpu(case))
                continue
            with results.kept(name):
                if case.dropout:
                    repeats(results, name, device)
                    continue
                mine = run(case, device, [*case.gpu.split(), *precision[case.half]])
                compare(results, name, mine, next_found(lines, name))
    return results.exit_code


def why_not_on_cpu(case: Case) -> str:
    """Why a CPU cannot stand for the GPU here; empty if it can."""
    if case.half == "fp16":
        return "a CPU has no fp16"
    if case.dropout:
        return "torch's flash kernel has no dropout on a CPU"
    return "compiling takes a CPU longer than all the rest" if case.gpu == BEST else ""


if __name__ == "__main__":
    sys.exit(main())
