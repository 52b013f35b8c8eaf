"""TFLOPS of every attention kernel that this machine can run, forward and backward, in bf16.

    python -m tests.gpu.attention [--only v4,cudnn] [--device cuda|cpu] [--tiny] [--out FILE]

Heads of 64 and of 128, 1,536 wide together as in GPT1_5B, one sample of a length, or documents of
8,192 tokens in a sample; the inputs are views of one fused product, as the model makes them.
Forward counts 4 b s² h / 2 operations, what is masked left out, backward 2.5 times as many
(FlashAttention-2, section 4.1); of documents each counts with its own length. The calls are those
of `python -m benchmarks attention`, which lets the kernels take turns. The last row of a case is
wrong where USE_FLASH_ATTN=best takes a kernel that is slower than another by a twentieth.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.attention import calls_of, config_of
from benchmarks.timing import seconds
from longseq.attention.kernel import Documents
from longseq.attention.limits import KERNELS
from longseq.config.arguments import Config
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
        return config_of(name, device, self.width // self.size, self.size, self.documents)


CASES = (
    Case(8192, 64),
    Case(8192, 128),
    Case(65536, 64),
    Case(65536, 128),
    Case(65536, 64, documents=True),
    Case(65536, 128, documents=True),
)
TINY = (Case(256, 64, width=128), Case(256, 32, width=128))


def measure(name: str, case: Case, device: str) -> dict[str, Any]:
    """Milliseconds and TFLOPS there and back: medians of five, after two that compile and fill
    caches.
    """
    calls = calls_of(name, device, case.tokens, case.width // case.size, case.size, case.ends)
    forward, both = (statistics.median([seconds(call) for _ in range(7)][2:]) for call in calls)
    backward = both - forward
    return {
        "forward_ms": forward * 1e3,
        "backward_ms": backward * 1e3,
        "forward_TFLOPS": case.operations / forward / 1e12,
        "backward_TFLOPS": BACKWARD * case.operations / backward / 1e12,
        "TFLOPS": (1 + BACKWARD) * case.operations / both / 1e12,
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
