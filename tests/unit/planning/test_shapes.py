"""What is plain to see of an operation's result is what torch finds out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.planning.simulate.shapes import IN_PLACE, OF_ONE, OF_TWO, WRITTEN_OUT, plain

ATEN = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


A, B, OUT = meta(4, 6), meta(4, 6), meta(4, 3)
ARGUMENTS: dict[Any, tuple[Any, ...]] = {
    ATEN.addmm.out: (meta(3), A, meta(6, 3)),
    ATEN.mm.out: (A, meta(6, 3)),
    ATEN.mul.out: (OUT, meta(4, 3)),
    ATEN.add.out: (OUT, meta(4, 3)),
    ATEN.addmm_.default: (OUT, A, meta(6, 3)),
    ATEN.addcmul_.default: (A, B, B),
    ATEN.exp_.default: (A,),
    ATEN.zero_.default: (A,),
    ATEN.uniform_.default: (A,),
    ATEN.normal_.default: (A,),
    ATEN.mm.default: (A, meta(6, 3)),
    **dict.fromkeys((ATEN.add_.Scalar, ATEN.mul_.Scalar, ATEN.fill_.Scalar), (A, 2.0)),
    **dict.fromkeys(OF_ONE, (A,)),
}


def storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


@pytest.mark.parametrize(
    "op", [*IN_PLACE, *WRITTEN_OUT, *OF_TWO, *OF_ONE, ATEN.mm.default], ids=str
)
def test_a_result_is_as_torch_has_it(op: Any) -> None:
    args = ARGUMENTS.get(op, (A, B))
    kwargs = {"out": OUT} if op in WRITTEN_OUT else {}
    found, expected = plain(op, args, kwargs), op(*args, **kwargs)
    assert found is not None
    for of in (Tensor.size, Tensor.stride, lambda x: x.dtype):
        assert of(found) == of(expected)
    given = [*args, *kwargs.values()]
    for one in (x for x in given if isinstance(x, Tensor)):
        assert (storage(found) == storage(one)) == (storage(expected) == storage(one))


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (ATEN.add.Tensor, (A, meta(6))),
        (ATEN.add.Tensor, (A, 1.0)),
        (ATEN.mul.Tensor, (A, meta(4, 6, dtype=torch.float32))),
        (ATEN.sub.Tensor, (A, meta(6, 4).t())),
        (ATEN.empty_like.default, (meta(6, 4).t(),)),
        (ATEN.t.default, (A,)),
    ],
    ids=str,
)
def test_torch_is_asked_for_the_rest(op: Any, args: tuple[Any, ...]) -> None:
    assert plain(op, args, {}) is None
