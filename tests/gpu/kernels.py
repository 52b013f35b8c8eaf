"""Step 1: every attention kernel that this machine can run against the CPU's core kernel in fp32.

    python -m tests.gpu.kernels [--only v4,triton] [--device cuda|cpu] [--out FILE]

Forward and the three gradients, on views of one fused product as the model makes them: whole
samples and documents, grouped heads, two sizes of heads; then dropout: its rate, that a seed
repeats it, that backward drops what forward dropped. A row says "not run" with the reason where a
kernel cannot run. Exit code 0: all that ran agree; 4: one does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents, Kernel, kernel
from longseq.attention.limits import KERNELS
from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import parse
from longseq.config.kernels import this_machine, why_not
from tests.gpu.results import Results, started, step_parser

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-2, "fp16": 3e-3}  # of the norm of the difference
COLUMNS = ("output", "dq", "dk", "dv")  # differences of these
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


def config_of(
    name: str, dtype: str, device: str, size: int, dropout: float, documents: bool = False
) -> Config:
    """The run that would call the kernel so."""
    words = ["--device", device, "--hidden-size", str(HEADS * size)]
    words += ["--num-attention-heads", str(HEADS), "--attention-dropout", str(dropout)]
    words += ["--reset-attention-mask"] if documents else []
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


def prove(results: Results, name: str, dtype: str, device: str, cases: Sequence[Case]) -> None:
    """The rows of one kernel in one precision."""
    ran, last = False, ""
    for case in cases:
        config = config_of(name, dtype, device, case.size, 0.0, case.documents is not None)
        reason = why_not(name, config, this_machine())
        what = f"{name} {dtype} {case}"
        ran |= not reason
        if results.has(what) or (reason and reason == last):
            continue
        last = reason
        if reason:
            results.row(what, "not run", reason)
            continue
        with results.kept(what):
            found = differences(kernel(name), case, dtype, device)
            right = all(x <= TOLERANCE[dtype] for x in found)  # not so where it is NaN
            values: dict[str, Any] = dict(zip(COLUMNS, found, strict=True))
            results.row(what, "ok" if right else "wrong", **values)
    if ran:
        prove_dropout(results, name, dtype, device)


def prove_dropout(results: Results, name: str, dtype: str, device: str) -> None:
    """The row about dropout."""
    what = f"{name} {dtype} dropout"
    if not results.has(what):
        reason = why_not(name, config_of(name, dtype, device, 64, 0.2), this_machine())
        with results.kept(what):
            faults = [] if reason else list(dropout_faults(kernel(name), DTYPES[dtype], device))
            verdict = "not run" if reason else "wrong" if faults else "ok"
            results.row(what, verdict, reason or "; ".join(faults))


def main(argv: Sequence[str] | None = None) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--only", default=",".join(KERNELS), help="names, commas between")
    options = started(parser, argv)
    results = Results(options.out, *COLUMNS)
    for name in options.only.split(","):
        for dtype in DTYPES if options.device == "cuda" else ("fp32", "bf16"):
            prove(results, name, dtype, options.device, CASES[:2] if options.tiny else CASES)
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main())
