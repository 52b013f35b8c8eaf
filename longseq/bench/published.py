"""What the predecessor's users published, and what `longseq plan` says of the same runs.

From the README of examples/long-sequences in ramanathanlab/genslm and docs/_pages/
deepspeed4science.md of DeepSpeed, both of 2023. The tables' "25B" is 64 layers, hidden 6144 (29.3
billion parameters), on A100s of 40 GB, fp16; the speeds are of tensor parallel 32, layers
recomputed. Of ours there is that, and the layout that is the best by the plan.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longseq.host.atomic_files import replace_file

K = 1024
OUT = None  # of memory
# TFLOPS of a GPU in Megatron's count, by tokens, 25B on 32 GPUs
TFLOPS: dict[str, dict[int, float | None]] = {
    "old Megatron-DeepSpeed": {2 * K: 25, 4 * K: 28}
    | {n * K: OUT for n in (8, 16, 32, 64, 128, 256)},
    "new Megatron-DeepSpeed": {
        2 * K: 68, 4 * K: 80, 8 * K: 86, 16 * K: 92, 32 * K: 100, 64 * K: 106, 128 * K: 119,
        256 * K: 94,
    },
}  # fmt: skip
# Thousands of tokens by number of GPUs
LONGEST: dict[str, dict[int, int]] = {
    "old Megatron-DeepSpeed": {32: 36, 64: 42, 128: 42},
    "Megatron-LM": {32: 26, 64: 48, 128: 52},
    "new Megatron-DeepSpeed": {32: 192, 64: 448, 128: 512},
}
AS_THEN = "longseq, planned, tensor parallel 32"
BEST = "longseq, planned, best layout"
TENSOR_PARALLEL = """--tensor-model-parallel-size 32 --sequence-parallel --checkpoint-activations
    --global-batch-size 2"""
Curves = dict[str, dict[int, float | None]]
KEPT = "planned-of-2023.json"


def known(folder: Path, longest: bool) -> Curves:
    """Ours for the one form or the other, of the points that were planned before, by curve:
    thousands of tokens by GPUs, or TFLOPS by tokens.
    """
    curves: Curves = {}
    kept = _kept(folder)
    for key, _ in _asked(longest):
        name, _, at = key.rpartition(": ")
        if key in kept:
            curves.setdefault(name, {})[int(at)] = kept[key]
    return curves


def plan_missing(
    folder: Path,
    longest: bool,
    say: Callable[[str], None],
    left: Callable[[], float] = lambda: math.inf,
) -> bool:
    """Plan the points that are not known yet by `longseq plan`, into folder/planned-of-2023.json,
    as all of them take half a minute. Is any new?

    left: seconds that it may take. A curve ends where a plan of it fails.
    """
    kept, failed, new = _kept(folder), set[str](), False
    missing = [one for one in _asked(longest) if one[0] not in kept]
    for number, (key, words) in enumerate(missing):
        curve = key.rpartition(": ")[0]
        if curve in failed:
            continue
        try:
            if (most := left()) <= 0:
                raise subprocess.TimeoutExpired("longseq plan", most)
            if number == 0:
                say("planning 2023's runs for their picture (--no-published leaves it out)")
            say(f"[{number + 1}/{len(missing)}] {key}")
            kept[key] = _value(_plan(words, most), longest)
        except subprocess.TimeoutExpired:
            say(
                f"no time is left to plan {len(missing) - number} points of 2023's curves, which"
                " the picture is without: the same command plans them"
            )
            return new
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            failed.add(curve)
            say(f"{key} cannot be planned, the curve is left out from there: {_why(error)}")
            continue
        replace_file(folder / KEPT, json.dumps(kept))
        new = True
    return new


def _why(error: Exception) -> str:
    """The last line of what a failed plan said."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _kept(folder: Path) -> dict[str, float | None]:
    """What was planned before; nothing where the file is none of ours, which is made anew."""
    try:
        found = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: one for key, one in found.items() if one is None or type(one) in (int, float)}


def _asked(longest: bool) -> list[tuple[str, list[str]]]:
    """`CURVE: WHERE` of each point, and what `longseq plan` is asked for it."""
    if longest:
        return [
            (f"{BEST}: {gpus}", _words(gpus, 128 * K, "", "--longest"))
            for gpus in LONGEST["Megatron-LM"]
        ]
    lengths = TFLOPS["new Megatron-DeepSpeed"]
    return [
        *((f"{AS_THEN}: {n}", _words(32, n, TENSOR_PARALLEL)) for n in lengths),
        *((f"{BEST}: {n}", _words(32, n, "", "--suggest")) for n in lengths),
    ]


def _words(gpus: int, tokens: int, layout: str, *options: str) -> list[str]:
    flags = f"""--num-layers 64 --hidden-size 6144 --num-attention-heads 64
        --seq-length {tokens} --max-position-embeddings {tokens} --use-rotary-position-embeddings
        --use-flash-attn-v2 --fp16 {layout}"""
    words = ["--gpu", "a100-40", "--gpus", str(gpus), "--vocab-size", "50304", "--json", *options]
    return [*words, "--", *flags.split()]


def _plan(words: list[str], most: float) -> Any:
    """What `longseq plan` says within `most` seconds."""
    command = [sys.executable, "-m", "longseq", "plan", *words]
    timeout = None if math.isinf(most) else most
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout)
    return json.loads(done.stdout)


def _value(said: Any, longest: bool) -> float | None:
    """Of a plan, or of the first that a search has found: TFLOPS, or thousands of tokens."""
    first: dict[str, Any] = said if isinstance(said, dict) else said[0] if said else {"fits": "no"}
    if first["fits"] != "yes":
        return OUT
    return float(first["tokens"]) / 1000 if longest else float(first["tflops"])
