"""What the predecessor's users published, and what `longseq plan` says of the same runs.

From the README of examples/long-sequences in ramanathanlab/genslm and docs/_pages/
deepspeed4science.md of DeepSpeed, both of 2023. The tables' "25B" is 64 layers, hidden 6144 (29.3
billion parameters), their "33B" 80 layers; tensor parallel 32 on A100s of 40 GB, fp16, layers
recomputed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
LONGEST: dict[str, dict[str, dict[int, int]]] = {
    "25B": {
        "old Megatron-DeepSpeed": {32: 36, 64: 42, 128: 42},
        "Megatron-LM": {32: 26, 64: 48, 128: 52},
        "new Megatron-DeepSpeed": {32: 192, 64: 448, 128: 512},
    },
    "33B": {
        "old Megatron-DeepSpeed": {32: 28, 64: 32, 128: 32},
        "Megatron-LM": {32: 14, 64: 46, 128: 52},
        "new Megatron-DeepSpeed": {32: 128, 64: 384, 128: 448},
    },
}
LAYERS = {"25B": 64, "33B": 80}
OURS = "longseq, planned"


def planned(folder: Path) -> tuple[dict[int, float | None], dict[str, dict[int, int]]]:
    """Ours for the same tables by `longseq plan`: TFLOPS by tokens, and thousands of tokens by
    network and GPUs. Kept in folder/planned.json, as it takes half a minute.
    """
    path = folder / "planned.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        speeds = {str(n): _speed(n) for n in TFLOPS["new Megatron-DeepSpeed"]}
        lengths = {
            name: {str(gpus): _longest(LAYERS[name], gpus) for gpus in (32, 64, 128)}
            for name in LONGEST
        }
        found = {"tflops": speeds, "longest": lengths}
        path.write_text(json.dumps(found), encoding="utf-8")
    longest = {
        name: {int(gpus): tokens for gpus, tokens in row.items()}
        for name, row in found["longest"].items()
    }
    return {int(n): value for n, value in found["tflops"].items()}, longest


def _speed(tokens: int) -> float | None:
    said = _plan(64, 32, tokens)
    return float(said["tflops"]) if said["fits"] == "yes" else OUT


def _longest(layers: int, gpus: int) -> int:
    said = _plan(layers, gpus, 128 * K, "--longest")
    return int(said[0]["tokens"]) // 1000 if said else 0


def _plan(layers: int, gpus: int, tokens: int, *options: str) -> Any:
    flags = f"""--num-layers {layers} --hidden-size 6144 --num-attention-heads 64
        --seq-length {tokens} --max-position-embeddings {tokens} --use-rotary-position-embeddings
        --use-flash-attn-v2 --tensor-model-parallel-size 32 --sequence-parallel
        --global-batch-size 2 --micro-batch-size 1 --fp16 --checkpoint-activations"""
    if options:  # it looks for the layout itself
        flags = flags.replace("--checkpoint-activations", "")
    words = ["plan", "--gpu", "a100-40", "--gpus", str(gpus), "--vocab-size", "50304", "--json"]
    command = [sys.executable, "-m", "longseq", *words, *options, "--", *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
