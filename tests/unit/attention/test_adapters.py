"""flash-attn 1 to 4 and torch's variable-length kernel, against stand-ins of their packages.

These kernels run on GPUs only; tests/gpu/kernels.py proves the real ones there.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents, kernel
from longseq.attention.kernels import sdpa
from longseq.attention.packing import pack, packing, unpack
from longseq.errors import UserError
from tests.unit.attention import stand_ins
from tests.unit.attention.plain import plain_attention

S, B, HEADS, D = 40, 2, 4, 16
DOCUMENTS = ((7, 8, 31, 40), (40,))
OFFSETS: dict[Documents, list[int]] = {None: [0, 40, 80], DOCUMENTS: [0, 7, 8, 31, 40, 80]}


@pytest.fixture(params=["v1", "v2", "v3", "v4"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A kernel whose package is a stand-in; what was imported with it is forgotten afterwards."""
    stand_ins.install(monkeypatch, request.param)
    yield request.param
    stand_ins.forget()


def fused(groups: int, b: int = B) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One product of queries, keys and values, as the model makes it, and its three views."""
    torch.manual_seed(1)
    x = torch.randn(S, b, HEADS + 2 * groups, D, dtype=torch.bfloat16, requires_grad=True)
    return x, *x.split((HEADS, groups, groups), 2)


@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_values_gradients_and_what_was_asked(name: str, documents: Documents, groups: int) -> None:
    x, q, k, v = fused(groups)
    found = kernel(name)(q, k, v, documents, None)
    wanted = plain_attention(q, k, v, documents)
    assert (found.shape, found.dtype) == ((S, B, HEADS, D), torch.bfloat16)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-2)
    weights = torch.randn(found.shape)
    (mine,) = torch.autograd.grad((found * weights).sum(), x, retain_graph=True)
    (theirs,) = torch.autograd.grad((wanted * weights).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=6e-2)
    (call,) = stand_ins.CALLS
    longest = 40
    shared = HEADS if name == "v1" else groups
    scale = 1 / math.sqrt(D)
    assert call == stand_ins.Call(OFFSETS[documents], longest, 0.0, scale, True, False, shared)


def test_dropout_is_repeated_by_its_seed(name: str) -> None:
    _, q, k, v = fused(4)
    attend = kernel(name)
    if name in ("v3", "v4"):
        with pytest.raises(AssertionError, match="refuses"):
            attend(q, k, v, None, AttentionDropout(0.5, 7))
        return
    before = torch.get_rng_state()
    one = attend(q, k, v, None, AttentionDropout(0.5, 7))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, attend(q, k, v, None, AttentionDropout(0.5, 7)))
    assert not torch.equal(one, attend(q, k, v, None, AttentionDropout(0.5, 8)))
    assert stand_ins.CALLS[0].dropout == 0.5


def test_bitwise_repeatable_where_torch_is_told_to_be(name: str) -> None:
    _, q, k, v = fused(4)
    torch.use_deterministic_algorithms(True)
    try:
        kernel(name)(q, k, v, None, None)
    finally:
        torch.use_deterministic_algorithms(False)
    assert stand_ins.CALLS[0].deterministic


def test_one_row_is_not_copied() -> None:
    _, q, _, _ = fused(2, b=1)
    assert pack(q).data_ptr() == q.data_ptr()
    y = torch.empty(S, HEADS, D)
    assert unpack(y, 1).data_ptr() == y.data_ptr()


def test_layers_share_the_offsets() -> None:
    cpu = torch.device("cpu")
    assert packing(S, B, DOCUMENTS, cpu).offsets is packing(S, B, DOCUMENTS, cpu).offsets


@pytest.mark.parametrize("groups", [4, 1])
def test_torchs_own_variable_length_kernel(groups: int) -> None:
    """Its CUDA path, with a stand-in that has the real one's signature."""
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has none")
    if sdpa.variable_length() is None:
        pytest.skip("this torch has it in an older form")
    _, q, k, v = fused(groups)

    def answer(*args: object, **kwargs: object) -> Tensor:
        asked = inspect.signature(varlen.varlen_attn).bind(*args, **kwargs).arguments
        a, b, c = asked["query"], asked["key"], asked["value"]
        offsets, longest = asked["cu_seq_q"], asked["max_q"]
        both = (offsets, asked["cu_seq_k"]), (longest, asked["max_k"])
        stand_ins.demand(a, b, c, *both, largest_head=256, multiple=8)
        assert asked["window_size"] == (-1, 0)
        assert asked["enable_gqa"] == (groups != HEADS)
        call = stand_ins.Call(offsets.tolist(), longest, 0, asked["scale"], True, False, groups)
        return stand_ins.compute(a, b, c, call)

    found = sdpa.packed(answer, q, k, v, DOCUMENTS)
    wanted = plain_attention(q, k, v, DOCUMENTS)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("module", "function", "stand_in"),
    [
        ("flash_attn.flash_attn_interface", "flash_attn_unpadded_func", "flash_attn_unpadded_func"),
        ("flash_attn", "flash_attn_varlen_func", "flash_attn_varlen_func"),
        ("flash_attn_interface", "flash_attn_func", "flash_attn_3_func"),
        ("flash_attn_interface", "flash_attn_varlen_func", "flash_attn_3_varlen_func"),
        ("flash_attn.cute", "flash_attn_func", "flash_attn_4_func"),
        ("flash_attn.cute", "flash_attn_varlen_func", "flash_attn_4_varlen_func"),
    ],
)
def test_stand_ins_have_the_real_signatures(module: str, function: str, stand_in: str) -> None:
    try:
        real = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError):
        pytest.skip(f"{module}.{function} is not installed here")
    mine = inspect.signature(getattr(stand_ins, stand_in)).parameters
    theirs = inspect.signature(real).parameters
    offsets = [word for word in mine if word.startswith(("cu_seqlens", "max_seqlen"))]
    used = [*list(mine)[:3], *offsets, "softmax_scale", "causal", "deterministic"]
    assert [theirs[word].name for word in used] == used
    assert list(theirs)[:7] == list(mine)[:7]  # which are given by their place


def test_a_package_that_does_not_load_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.delitem(sys.modules, "longseq.attention.kernels.flash_v2", raising=False)
    with pytest.raises(
        UserError, match=r"USE_FLASH_ATTN=v2\): its package does not load"
    ) as raised:
        kernel("v2")
    assert "\n" not in str(raised.value)
