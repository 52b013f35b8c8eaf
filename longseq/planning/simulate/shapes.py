"""What an operation gives, where that is plain to see: torch finds some shapes out in Python.

    result = plain(func, args, kwargs)      # None: torch is to compute it

An addmm's shape takes it half a millisecond, and a step of many ranks is made of a hundred thousand
small operations. Tensors are on the meta device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

META = torch.device("meta")
ATEN = torch.ops.aten

# Give back the tensor that they write to, and change neither its shape nor its storage
WRITTEN_OUT = {ATEN.addmm.out, ATEN.mm.out, ATEN.mul.out, ATEN.add.out}
IN_PLACE = {
    ATEN.add_.Tensor,
    ATEN.add_.Scalar,
    ATEN.sub_.Tensor,
    ATEN.mul_.Tensor,
    ATEN.mul_.Scalar,
    ATEN.addmm_.default,
    ATEN.addcmul_.default,
    ATEN.copy_.default,
    ATEN.exp_.default,
    ATEN.fill_.Scalar,
    ATEN.zero_.default,
    ATEN.uniform_.default,
    ATEN.normal_.default,
}
OF_TWO = {ATEN.add.Tensor, ATEN.sub.Tensor, ATEN.mul.Tensor}  # alike: one more of the same
OF_ONE = {ATEN.empty_like.default, ATEN.zeros_like.default}


def plain(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """The result, a tensor on the meta device, or None."""
    if func in IN_PLACE:
        written: Tensor = args[0]
        return written
    if func in WRITTEN_OUT:
        out: Tensor = kwargs["out"]
        return out
    if func in OF_TWO:
        a, b = args[:2]
        alike = isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return _another(a, a.dtype) if alike and a.is_contiguous() and b.is_contiguous() else None
    if func in OF_ONE:
        like = args[0]
        asked = kwargs.get("memory_format") in (None, torch.preserve_format)
        dtype = kwargs.get("dtype") or like.dtype
        return _another(like, dtype) if asked and like.is_contiguous() else None
    if func is ATEN.mm.default:
        a, b = args
        return torch.empty((a.shape[0], b.shape[1]), dtype=a.dtype, device=META)
    return None


def _another(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(like.shape, dtype=dtype, device=META)
