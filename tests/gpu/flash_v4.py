"""Compile FlashAttention-4's kernels for a GPU on a machine that has none: our calls of it hold.

    pip install --target DIR 'flash-attn-4>=4.0.0b36' triton
    PYTHONPATH=DIR:DIR/nvidia_cutlass_dsl/dsl_packages python -m tests.gpu.flash_v4 [--gpu 90|100]

That package compiles where it is first called, for tensors without memory too: what it refuses of
shapes, strides, sizes of heads or arguments is seen without a GPU, its numbers are not
(tests/gpu/kernels.py). A row is a size of heads, whole samples or documents, all gradients or one
order of them. Exit code 0: all of them compile; 1: one does not.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
import time

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from longseq.attention.kernel import Documents, kernel
from longseq.attention.limits import KERNELS
from longseq.attention.packing import Packing

S, B, HEADS, GROUPS = 512, 2, 8, 2
DOCUMENTS: Documents = ((7, 130, 512), (300,))
SIZES = (8, 16, 64, 96, 128, 192, 256)


def compile_one(size: int, documents: Documents, deterministic: bool) -> None:
    """Forward by our own call of it, backward by the function that its autograd calls."""
    from flash_attn.cute import interface

    from longseq.attention.kernels import flash_v4

    offsets = torch.empty(5, device="cuda", dtype=torch.int32)
    vars(flash_v4)["packing"] = lambda *_: Packing(offsets, 382)  # without pinned memory
    fused = torch.empty(S, B, HEADS + 2 * GROUPS, size, device="cuda", dtype=torch.bfloat16)
    q, k, v = fused.split((HEADS, GROUPS, GROUPS), 2)
    y = kernel("v4")(q, k, v, documents, None)
    assert y.shape == q.shape, y.shape
    options: dict[str, Tensor | int] = {}
    a, b, c = (x.transpose(0, 1) for x in (q, k, v))
    if documents:
        a, b, c = (x.flatten(0, 1) for x in (a, b, c))
        options = {f"cu_seqlens_{x}": offsets for x in "qk"}
        options |= {f"max_seqlen_{x}": 382 for x in "qk"}
    rows = (HEADS, B * S) if documents else (B, HEADS, S)
    sums = torch.empty(*rows, device="cuda", dtype=torch.float32)
    y, scale = torch.empty_like(a), 1 / math.sqrt(size)
    found = interface._flash_attn_bwd(
        a, b, c, y, y, sums, scale, True, deterministic=deterministic, **options
    )
    assert [x.shape for x in found[:3]] == [a.shape, b.shape, c.shape]


def row(gpu: str, size: int, documents: Documents, one_order: bool) -> bool:
    """Compile one and say how it went."""
    began, verdict = time.perf_counter(), "ok"
    try:
        compile_one(size, documents, one_order)
    except Exception as error:  # whatever the package raises is the result
        verdict = f"{type(error).__name__}: {error}"
    kind = f"{'documents' if documents else 'whole':9} {'one' if one_order else 'any'} order"
    print(f"{gpu} heads of {size:3} {kind} {time.perf_counter() - began:4.1f} s  {verdict}")
    return verdict == "ok"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpu", choices=("90", "100"), default="90", help="H100 and H200, or B200")
    options = parser.parse_args()
    os.environ |= {
        "FLASH_ATTENTION_ARCH": f"sm_{options.gpu}",
        "CUTE_DSL_ARCH": f"sm_{options.gpu}a",
        "FLASH_ATTENTION_NUM_SMS": "132",
    }
    # Tensors without memory ask a torch for CPUs which GPU is the present one
    torch.cuda._lazy_init = lambda: None
    torch._C._cuda_getDevice = getattr(torch._C, "_cuda_getDevice", lambda: 0)
    large = KERNELS["v4"].large
    assert large
    sizes = [d for d in SIZES if d <= large.size or options.gpu == "90"]
    cases = itertools.product(sizes, (None, DOCUMENTS), (False, True))
    with FakeTensorMode(), torch.no_grad():
        faults = sum([not row(f"sm_{options.gpu}", *case) for case in cases])
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
