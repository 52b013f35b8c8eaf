"""Proves every attention kernel that this machine can run against the CPU's core kernel in fp32.

    python tests/gpu/prove_kernels.py [--device cuda|cpu] [--speed]

Forward and the three gradients, on views of one fused product as the model makes them: whole
samples and documents, grouped heads, two sizes of heads; then dropout: its rate, that a seed
repeats it, that backward drops what forward dropped. A row says "not here" with the reason where a
kernel cannot run. Exit code 0: all that ran agree; 1: one does not. --speed adds milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from longseq.attention.kernel import AttentionDropout, Documents, Kernel, kernel  # noqa: E402
from longseq.attention.limits import KERNELS  # noqa: E402
from longseq.config.arguments import GROUPS, Config  # noqa: E402
from longseq.config.flags import parse  # noqa: E402
from longseq.config.kernels import this_machine, why_not  # noqa: E402
from longseq.errors import UserError  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-2, "fp16": 3e-3}  # of the norm of the difference
S, B, HEADS = 333, 2, 8
DOCUMENTS: Documents = ((1, 7, 130, 131, 256, 333), (300,))


@dataclass(frozen=True)
class Case:
    """One way to call a kernel."""

    groups: int = HEADS
    size: int = 64
    documents: Documents = None

    def __str__(self) -> str:
        kind = "documents" if self.documents else "whole"
        return f"{kind}, heads {HEADS}/{self.groups} of {self.size}"


CASES = (
    Case(),
    Case(documents=DOCUMENTS),
    Case(groups=2, documents=DOCUMENTS),
    Case(groups=1),
    Case(size=128, groups=2),
    Case(size=128, documents=DOCUMENTS),
)


def config_of(name: str, dtype: str, device: str, size: int, dropout: float) -> Config:
    """The run that would call the kernel so."""
    words = ["--device", device, "--hidden-size", str(HEADS * size)]
    words += ["--num-attention-heads", str(HEADS), "--attention-dropout", str(dropout)]
    words += [f"--{dtype}"] if dtype != "fp32" else []
    return Config(*parse(GROUPS, words + ([f"--use-flash-attn-{name}"] if name != "core" else [])))


def results(attend: Kernel, case: Case, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Output and gradients of q, k and v for one and the same case, fp32 on the CPU."""
    generator = torch.Generator().manual_seed(1)
    shape = S, B, HEADS + 2 * case.groups, case.size
    fused = torch.randn(shape, generator=generator).to(torch.bfloat16).to(device, dtype)
    fused.requires_grad_()
    q, k, v = fused.split((HEADS, case.groups, case.groups), 2)
    y = attend(q, k, v, case.documents, None)
    dy = torch.randn(y.shape, generator=generator).to(torch.bfloat16).to(device, dtype)
    (gradient,) = torch.autograd.grad(y, fused, dy)
    pieces = gradient.split((HEADS, case.groups, case.groups), 2)
    return [x.detach().float().cpu() for x in (y, *pieces)]


def differences(attend: Kernel, case: Case, dtype: str, device: str) -> list[float]:
    """Of output and gradients from those of core in fp32 on the CPU, by the norm."""
    mine = results(attend, case, DTYPES[dtype], device)
    theirs = results(kernel("core"), case, torch.float32, "cpu")
    return [float((a - b).norm() / b.norm()) for a, b in zip(mine, theirs, strict=True)]


def dropout_faults(attend: Kernel, dtype: torch.dtype, device: str) -> Iterator[str]:
    """What is wrong with dropout of 0.2; uniform weights are read off with one-hot values."""
    size, dropped = 64, AttentionDropout(0.2, 5)
    q, k = (torch.zeros(size, B, HEADS, size, dtype=dtype, device=device) for _ in range(2))
    v = torch.eye(size, dtype=dtype, device=device)[:, None, None].repeat(1, B, HEADS, 1)
    v.requires_grad_()
    y = attend(q, k, v, None, dropped)
    weights = y.detach().float().permute(1, 2, 0, 3)  # [b, heads, query, key]
    seen = torch.ones(size, size, dtype=torch.bool, device=device).tril().expand_as(weights)
    rate = float((weights[seen] == 0).float().mean())
    if abs(rate - 0.2) > 0.02:
        yield f"rate {rate:.3f} in place of 0.2"
    plain = 1 / torch.arange(1, size + 1, device=device)[:, None].expand_as(weights)
    kept = weights > 0
    if not torch.allclose(weights[kept], (plain / 0.8)[kept], rtol=2e-2):
        yield "kept weights are not 1/(1-p) of what they were"
    if not torch.equal(y, attend(q, k, v, None, dropped)):
        yield "the seed does not repeat it"
    if torch.equal(y, attend(q, k, v, None, AttentionDropout(0.2, 6))):
        yield "another seed drops the same"
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(device, dtype)
    (found,) = torch.autograd.grad(y, v, dy)
    wanted = torch.einsum("bhst,sbhd->tbhd", weights, dy.float())
    if float((found.float() - wanted).norm() / wanted.norm()) > 2e-2:
        yield "backward drops other weights than forward"


def milliseconds(attend: Kernel, dtype: torch.dtype, device: str, s: int = 8192) -> float:
    """Forward and backward of one sample of 8192 tokens, heads 8/8 of 64; best of five."""
    q, k, v = (
        torch.randn(s, 1, HEADS, 64, dtype=dtype, device=device, requires_grad=True)
        for _ in range(3)
    )
    best = float("inf")
    for _ in range(6):
        wait(device)
        began = time.perf_counter()
        torch.autograd.grad(attend(q, k, v, None, None).sum(), (q, k, v))
        wait(device)
        best = min(best, time.perf_counter() - began)
    return best * 1e3


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def prove(name: str, dtype: str, device: str, speed: bool) -> bool:
    """Print the rows of one kernel in one precision; False if a row is wrong."""
    good, ran, last = True, False, ""
    machine = this_machine()
    for case in CASES:
        title = f"{name:<7} {dtype:<5} {case!s:<32}"
        reason = why_not(name, config_of(name, dtype, device, case.size, 0.0), machine)
        if reason:
            if reason != last:
                print(f"{title} not here: {reason}")
            last = reason
            continue
        try:
            found = differences(kernel(name), case, dtype, device)
        except (UserError, RuntimeError, TypeError, ValueError) as error:
            print(f"{title} FAILED: {' '.join(str(error).split())[:300]}")
            return False
        right, ran = max(found) <= TOLERANCE[dtype], True
        good &= right
        print(title, " ".join(f"{x:>8.1e}" for x in found), "ok" if right else "WRONG", flush=True)
    if ran:
        title = f"{name:<7} {dtype:<5} {'dropout':<32}"
        reason = why_not(name, config_of(name, dtype, device, 64, 0.2), machine)
        faults = [] if reason else list(dropout_faults(kernel(name), DTYPES[dtype], device))
        print(title, f"not here: {reason}" if reason else "; ".join(faults) or "ok")
        good &= not faults
    if speed and ran:
        took = milliseconds(kernel(name), DTYPES[dtype], device)
        print(f"{name:<7} {dtype:<5} {'8192 tokens, there and back':<32} {took:.2f} ms")
    return good


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=here)
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args(argv)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    versions = ", ".join(
        f"{name} {version}" for name, version in this_machine().versions if version
    )
    print(f"{device}; {versions}")
    print(f"{'':<46} {'output':>8} {'dq':>8} {'dk':>8} {'dv':>8}")
    dtypes = DTYPES if args.device == "cuda" else ("fp32", "bf16")
    verdicts = [prove(name, dtype, args.device, args.speed) for name in KERNELS for dtype in dtypes]
    print("all that ran agree" if all(verdicts) else "NOT all agree")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
