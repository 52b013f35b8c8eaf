"""TFLOPS of every attention kernel that this machine can run, forward and backward, in bf16.

    python -m tests.gpu.attention [--only v4,cudnn] [--device cuda|cpu] [--tiny] [--out FILE]

Heads of 64 and of 128, 1,536 wide together as in GPT1_5B, one sample of a length, or documents of
8,192 tokens in a sample; the inputs are views of one fused product, as the model makes them.
Forward counts 4 b s² h / 2 operations, what is masked left out, backward 2.5 times as many
(FlashAttention-2, section 4.1); of documents each counts with its own length. The last row of a
case is wrong where USE_FLASH_ATTN=best takes a kernel that is slower than another by a twentieth.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from longseq.attention.kernel import Documents, kernel
from longseq.attention.limits import KERNELS
from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import parse
from longseq.config.kernels import this_machine, why_not, with_kernel
from tests.gpu.results import Results, started, step_parser

WIDTH, PART = 1536, 8192  # of all heads; tokens of a document
BACKWARD = 2.5  # operations of backward, of forward's
SLOWEST = 0.95  # of the fastest kernel's rate: what the best one may have


@dataclass(frozen=True)
class Case:
    """One sample of `tokens` with heads of `size`, in documents or whole."""

    tokens: int
    size: int
    documents: bool = False
    width: int = WIDTH

    def __str__(self) -> str:
        return f"{self.tokens}{' in documents' if self.documents else ''}, heads of {self.size}"

    @property
    def ends(self) -> Documents:
        return (tuple(range(PART, self.tokens + 1, PART)),) if self.documents else None

    @property
    def operations(self) -> float:
        """Of forward."""
        parts, length = (self.tokens // PART, PART) if self.documents else (1, self.tokens)
        return 2 * parts * length**2 * self.width

    def config(self, name: str, device: str) -> Config:
        words = f"--device {device} --bf16 --hidden-size {self.width} --num-attention-heads"
        words += f" {self.width // self.size} --use-flash-attn-{name}"
        words += " --reset-attention-mask" if self.documents else ""
        return Config(*parse(GROUPS, words.split()))


CASES = (
    Case(8192, 64),
    Case(8192, 128),
    Case(65536, 64),
    Case(65536, 128),
    Case(65536, 64, documents=True),
    Case(65536, 128, documents=True),
)
TINY = (Case(256, 64, width=128), Case(256, 32, width=128))


def seconds(call: Callable[[], object], device: str) -> float:
    """Of one call: the median of five, after two that compile and fill caches."""
    times = []
    for _ in range(7):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - began)
        if sum(times) > 5:
            break
    return statistics.median(times[2:] or times)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(name: str, case: Case, device: str) -> dict[str, Any]:
    """Milliseconds and TFLOPS there, and there and back."""
    heads = case.width // case.size
    fused = torch.randn(case.tokens, 1, 3 * heads, case.size, dtype=torch.bfloat16, device=device)
    q, k, v = fused.requires_grad_().split(heads, 2)
    attend = kernel(name)

    def there() -> torch.Tensor:
        return attend(q, k, v, case.ends, None)

    y = there()
    dy = torch.randn_like(y)
    with torch.no_grad():
        forward = seconds(there, device)
    backward = seconds(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True), device)
    both = (1 + BACKWARD) * case.operations / (forward + backward)
    return {
        "forward_ms": forward * 1e3,
        "backward_ms": backward * 1e3,
        "forward_TFLOPS": case.operations / forward / 1e12,
        "backward_TFLOPS": BACKWARD * case.operations / backward / 1e12,
        "TFLOPS": both / 1e12,
    }


def judge(results: Results, case: Case, device: str) -> None:
    """The row that says which kernel is taken of those that were measured."""
    head = f"{case}, "
    found = {
        row["what"].removeprefix(head): row["TFLOPS"]
        for row in results.rows
        if row["what"].startswith(head) and "TFLOPS" in row
    }
    best = with_kernel(case.config("best", device), this_machine()).memory.kernel
    fastest = max(found, key=found.__getitem__)
    good = found[best] >= SLOWEST * found[fastest]
    results.row(
        f"{head}best", "ok" if good else "wrong", best if good else f"{best}, not {fastest}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--only", help="names, commas between; nothing is judged then")
    options = started(parser, argv)
    device = options.device
    names = options.only.split(",") if options.only else [n for n in KERNELS if n != "core"]
    results = Results(options.out, "TFLOPS")
    for case in TINY if options.tiny else CASES:
        for name in names:
            what = f"{case}, {name}"
            if results.has(what):
                continue
            reason = why_not(name, case.config(name, device), this_machine())
            if reason:
                results.row(what, "not run", reason)
                continue
            with results.kept(what):
                results.row(what, "ok", **measure(name, case, device))
        if not options.only and not results.has(f"{case}, best"):
            with results.kept(f"{case}, best"):
                judge(results, case, device)
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main())
