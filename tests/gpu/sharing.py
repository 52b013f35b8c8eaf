"""Two ranks that share one GPU, against one rank: every axis, ZeRO 1 to 3. For proof, not speed.

    python -m tests.gpu.sharing --out sharing.json [--within 300] [--device cuda|cpu] [--tiny]

NCCL wants a GPU for each rank. Where there is one alone, both ranks talk over gloo, through host
memory (staged.py); where there are two or more, over NCCL. fp32 (TF32 off) must agree to 1e-4 in
losses and in gradient norms over 4 steps, bf16 to what rounding explains.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.gpu.repeat import write_tokens
from tests.gpu.results import Results, step_options
from tests.parallel.ranks import ROOT, free_port

COMMON = (
    "--use-rotary-position-embeddings --use-flash-attn-sdpa --num-attention-heads 8 --compile off"
    " --micro-batch-size 1 --global-batch-size 2 --lr-decay-style constant"
    " --tokenizer-type nucleotide"
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
LIMIT = 240.0  # seconds for all cases together, ranks that wait for each other included
Tell = Callable[[str, dict[str, Any]], None]


def run_ranks(count: int, how: dict[str, Any], tell: Tell) -> str:
    """Start ranks and `tell` what they found, case by case; returns what they said if they failed.

    What there is by then is told as well if this process is told to end.
    """
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(count)}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    here |= {"DS_ACCELERATOR": how["device"], "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
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
        try:
            good = _wait(ranks)
        finally:
            for line in files[0].read_text().splitlines():
                if line.startswith('{"case"'):
                    found = json.loads(line)
                    tell(found.pop("case"), found)
        said = [file.with_suffix(".err").read_text()[-600:] for file in files]
    return "" if good else " | ".join(filter(None, said)) or f"not done in {LIMIT:.0f} s"


def _wait(ranks: list[subprocess.Popen[bytes]]) -> bool:
    """Until all ranks are done; one that fails, or the time limit, ends the others."""
    end = time.monotonic() + LIMIT
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
    options = step_options(__doc__, argv)
    own_gpus = options.device == "cuda" and torch.cuda.device_count() > 1
    how: dict[str, Any] = {"device": options.device, "backend": "nccl" if own_gpus else "gloo"}
    print("two ranks", "over NCCL" if own_gpus else "share one device over gloo", flush=True)
    results = Results(options.out, "what", "loss", "norm")
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder, "tokens"))
        base = f"{COMMON} {SIZES[options.tiny]} --device {options.device}"
        run_all(results, how, f"{base} --data-path {folder}/tokens")
    return results.exit_code


def run_all(results: Results, how: dict[str, Any], base: str) -> None:
    """Every case that has no row yet, on one rank and on two."""
    alone = {dtype: f"{base} {flag}".split() for dtype, flag in DTYPES.items()}
    left = {
        f"{axis}, {dtype}": [*flags, *more.split()]
        for dtype, flags in alone.items()
        for axis, more in AXES.items()
        if not results.has(f"{axis}, {dtype}")
    }
    ones: dict[str, dict[str, Any]] = {}

    def tell(case: str, found: dict[str, Any]) -> None:
        compare(results, case, ones[case.rsplit(", ", 1)[1]], found)
        del left[case]

    said = run_ranks(1, how | {"cases": alone}, ones.__setitem__) if left else ""
    if said:
        results.row("one rank", "failed", said)
        return
    while left:
        said = run_ranks(2, how | {"cases": left}, tell)
        if left:  # the first that said nothing is at fault: the others are tried without it
            case = next(iter(left))
            results.row(case, "failed", said)
            del left[case]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
