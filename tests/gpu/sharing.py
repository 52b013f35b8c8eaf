"""Two ranks that share one GPU, against one rank: every axis, ZeRO 1 to 3. For proof, not speed.

    python -m tests.gpu.sharing --out sharing.json [--within 300] [--device cuda|cpu] [--tiny]

NCCL wants a GPU for each rank. Where there is one alone, both ranks talk over gloo, through host
memory (staged.py); where there are two or more, over NCCL. fp32 (TF32 off) must agree to 1e-4 in
losses and in gradient norms over 4 steps, bf16 to what rounding explains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.gpu.results import Results
from tests.parallel.losses import GENOME
from tests.parallel.ranks import ROOT, free_port

COMMON = (
    "--use-rotary-position-embeddings --use-flash-attn-sdpa --num-attention-heads 8"
    f" --micro-batch-size 1 --global-batch-size 2 --lr-decay-style constant --data-path {GENOME}"
)
SIZES = {
    False: "--num-layers 4 --hidden-size 512 --seq-length 2048 --lr 1e-4",
    True: "--num-layers 2 --hidden-size 64 --seq-length 128 --lr 1e-4",
}
AXES = {
    "tensor parallel": "--tensor-model-parallel-size 2",
    "tensor and sequence parallel": "--tensor-model-parallel-size 2 --sequence-parallel",
    "Ulysses": "--ds-sequence-parallel-size 2",
    "ring": "--context-parallel-size 2",
    "data parallel": "",
    "data parallel, ZeRO 1": "--zero-stage 1",
    "data parallel, ZeRO 2": "--zero-stage 2",
    "data parallel, ZeRO 3": "--zero-stage 3",
}
DTYPES = {"fp32": "", "bf16": "--bf16"}
LOSS = {"fp32": 1e-4, "bf16": 2e-2}  # largest difference over the steps
NORM = {"fp32": 1e-4, "bf16": 3e-2}  # and of gradient norms, relative


def run_ranks(
    count: int, how: dict[str, Any], limit: float
) -> tuple[dict[str, dict[str, Any]], str]:
    """What the ranks found, by case, and if they failed what they said; `limit` in seconds."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(count)}
    here |= {"DS_ACCELERATOR": how["device"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.gpu.sharing_rank", json.dumps(how)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(rank)) for rank in range(count)]
        ranks = []
        for rank, file in enumerate(files):
            local = rank if how["backend"] == "nccl" else 0
            own = {"RANK": str(rank), "LOCAL_RANK": str(local), "LONGSEQ_CACHE": folder}
            with file.open("w") as out, file.with_suffix(".err").open("w") as err:
                env = os.environ | here | own
                ranks.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=err))
        good = _wait(ranks, limit)
        lines = [line for line in files[0].read_text().splitlines() if line.startswith('{"case"')]
        found = {done.pop("case"): done for done in map(json.loads, lines)}
        said = [file.with_suffix(".err").read_text()[-600:] for file in files]
    return found, "" if good else " | ".join(filter(None, said)) or f"not done in {limit:.0f} s"


def _wait(ranks: list[subprocess.Popen[bytes]], limit: float) -> bool:
    """Until all ranks are done; one that fails, or the time limit, ends the others."""
    end = time.monotonic() + limit
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() for rank in ranks) or time.monotonic() > end:
                return False
            time.sleep(0.1)
        return not any(rank.returncode for rank in ranks)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def compare(results: Results, case: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    """A row: how far two ranks are from one."""
    dtype = case.rsplit(", ", 1)[1]
    if "refused" in two:
        results.row(case, "not run", two["refused"])
        return
    loss = max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True))
    norm = max(abs(b / a - 1) for a, b in zip(one["norms"], two["norms"], strict=True))
    good = loss <= LOSS[dtype] and norm <= NORM[dtype]
    results.row(case, "ok" if good else "wrong", loss=loss, norm=norm, last=two["losses"][-1])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--out", type=Path)
    parser.add_argument("--within", type=float, default=600.0, help="seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=here)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(argv)
    end = time.monotonic() + args.within
    own_gpus = args.device == "cuda" and torch.cuda.device_count() > 1
    how: dict[str, Any] = {"device": args.device, "backend": "nccl" if own_gpus else "gloo"}
    print("two ranks", "over NCCL" if own_gpus else "share one device over gloo", flush=True)
    results = Results(args.out, "what", "loss", "norm")
    base = f"{COMMON} {SIZES[args.tiny]} --device {args.device}"
    alone = {dtype: f"{base} {flag}".split() for dtype, flag in DTYPES.items()}
    left = {
        f"{axis}, {dtype}": [*flags, *more.split()]
        for dtype, flags in alone.items()
        for axis, more in AXES.items()
        if not results.has(f"{axis}, {dtype}")
    }
    ones, said = run_ranks(1, how | {"cases": alone}, args.within) if left else ({}, "")
    while left and not said:
        found, said = run_ranks(2, how | {"cases": left}, end - time.monotonic())
        for case, two in found.items():
            compare(results, case, ones[case.rsplit(", ", 1)[1]], two)
            del left[case]
        if said and left:  # the first that said nothing is at fault: the others are tried without
            results.row(next(iter(left)), "failed", said)
            del left[next(iter(left))]
            said = "" if time.monotonic() < end else "not in the time that there was"
    for case in left:
        results.row(case, "not run", said)
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
