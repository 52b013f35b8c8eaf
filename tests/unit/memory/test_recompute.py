"""Ways through a layer that keep less give the numbers of the layer as it is written."""

from __future__ import annotations

import weakref
from typing import Any
from unittest import mock

import pytest
import torch

from longseq.attention import chunked as in_chunks
from longseq.attention.blocks import block_backward, block_forward
from longseq.attention.chunked import chunked
from longseq.attention.host_chunks import HostChunks
from longseq.attention.kernel import kernel
from longseq.attention.kernels.sdpa import attend as sdpa
from longseq.config.arguments import Network
from longseq.engine.network.initialize import initialize
from longseq.engine.network.recompute import apply_recompute_policy
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.memory.recomputing.detached_attention import DetachedAttention
from longseq.memory.recomputing.layer import _Sums
from longseq.memory.recomputing.offload import HostStore, piece_sizes
from longseq.model.context import Context
from longseq.model.gpt import GPT
from longseq.planning.simulate.trace import Trace

NET = Network(
    num_layers=5,
    hidden_size=32,
    num_attention_heads=4,
    num_key_value_heads=2,
    seq_length=50,
    use_rotary_position_embeddings=True,
)


def loss_and_gradients(
    policy: RecomputePolicy | None,
    net: Network = NET,
    attention: Any = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, ...]:
    """Of one training step on two rows of two documents each."""
    model = GPT(net, 11, attention or kernel("sdpa"), seed=3)
    initialize(model, net, 3, torch.device("cpu"))
    model.to(dtype)
    if policy:
        apply_recompute_policy(model, policy)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(11, (2, 50), generator=generator)
    weights = torch.rand(2, 50, generator=generator, dtype=torch.float64) / 100
    documents = ((20, 50), (31, 50))
    positions = torch.arange(50)[None]
    loss = model(tokens, tokens.roll(-1, 1), weights.float(), positions, documents, forward_pass=7)
    loss.backward()
    return loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)


WAYS = {
    "full": RecomputePolicy("full"),
    "full, tiles": RecomputePolicy("full", tile=16),
    "full, tiles of one": RecomputePolicy("full", tile=1),
    "full, every third": RecomputePolicy("full", layers=3, tile=16),
    "full, first two": RecomputePolicy("full", method="block", layers=2, tile=16),
    "full, on the host": RecomputePolicy("full", tile=16, inputs_on_host=True),
    "full, every second, on the host": RecomputePolicy(
        "full", layers=2, tile=16, inputs_on_host=True
    ),
    "outside": RecomputePolicy("outside-attention", tile=16),
    "outside, on the host": RecomputePolicy("outside-attention", tile=16, inputs_on_host=True),
    "selective": RecomputePolicy("selective"),
    "pointwise": RecomputePolicy("pointwise"),
    "outside, first two, pointwise": RecomputePolicy(
        "outside-attention", method="block", layers=2, rest="pointwise", tile=16
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_same_numbers(name: str) -> None:
    for found, expected in zip(
        loss_and_gradients(WAYS[name]), loss_and_gradients(None), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_sum_goes_when_it_is_turned_into_a_gradient() -> None:
    """Of four parameters of as many bytes, sums of twice that, and one gradient."""
    four = [torch.empty(8, dtype=torch.bfloat16, device="meta") for _ in range(4)]
    with Trace(on_gpu=False) as trace:
        sums = _Sums(four)
        sums.add([torch.empty_like(x) for x in four])
        trace.restart()
        found = sums.gradients()
    assert [x.dtype for x in found if x is not None] == [torch.bfloat16] * 4
    assert trace.peak.total == (4 * 2 + 1) * four[0].nbytes


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        (None, 5),
        (RecomputePolicy("full"), 10),
        (RecomputePolicy("full", layers=3), 15),  # a group again, and each of its layers again
        (RecomputePolicy("full", method="block", layers=2), 7),
        (RecomputePolicy("outside-attention"), 5),
        (RecomputePolicy("selective"), 10),
        (RecomputePolicy("pointwise"), 5),
    ],
)
def test_how_often_attention_runs(policy: RecomputePolicy | None, calls: int) -> None:
    """Five layers, forward and backward: what is made again, and what is not."""
    seen = 0

    def attend(*arguments: Any) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return sdpa(*arguments)

    loss_and_gradients(policy, attention=attend)
    assert seen == calls


@pytest.mark.parametrize(
    ("recompute", "tile"),
    [
        *(("full", 1000), ("full", 24), ("full", 64), ("outside-attention", 100)),
        *(("selective", 0), ("pointwise", 0)),
    ],
)
@pytest.mark.parametrize("name", ["core", "sdpa"])
def test_dropout_is_repeated(recompute: str, tile: int, name: str) -> None:
    """Dropout falls where it does without recomputation, wherever tiles are cut."""
    net = Network(
        num_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        seq_length=150,
        use_rotary_position_embeddings=True,
        hidden_dropout=0.3,
        attention_dropout=0.2 if name == "core" else 0.0,
    )
    found = loss_and_gradients(RecomputePolicy(recompute, tile=tile), net, kernel(name))
    for a, b in zip(found, loss_and_gradients(None, net, kernel(name)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_tiles_drop_differently_from_each_other() -> None:
    net = Network(num_layers=1, hidden_size=32, num_attention_heads=4, seq_length=50)
    dropped = Network(**(net.__dict__ | {"hidden_dropout": 0.5}))
    model = GPT(dropped, 11, kernel("sdpa"), seed=3)
    initialize(model, dropped, 3, torch.device("cpu"))
    apply_recompute_policy(model, RecomputePolicy("full", tile=25))
    seen: list[torch.Tensor] = []
    layer: Any = model.layers[0]
    layer.mlp_dropout.register_forward_hook(lambda _, __, y: seen.append(y == 0))
    x = torch.randn(50, 1, 32)
    layer(x, Context(forward_pass=1))
    assert len(seen) == 2
    assert 0.3 < seen[0].float().mean() < 0.7
    assert not torch.equal(*seen)


def test_attention_runs_once_and_its_inputs_are_dropped() -> None:
    """Of the four tensors that flash attention keeps, three are made again."""
    calls = 0

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return sdpa(q, k, v, None, None)

    q, k, v = (torch.randn(64, 1, 4, 8) for _ in range(3))
    a, b, c = leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    gradient = torch.randn(64, 1, 4, 8)
    expected = torch.autograd.grad(sdpa(a, b, c, None, None), leaves, gradient)
    kept = DetachedAttention(attend, q, k, v, keep_inputs=False)
    q2, k2, v2 = (x.clone() for x in (q, k, v))
    for x in (q, k, v):
        x.untyped_storage().resize_(0)  # as if freed
    assert kept.lacks_inputs
    kept.give(q2, k2, v2)
    for found, due in zip(kept.backward(gradient), expected, strict=True):
        torch.testing.assert_close(found, due)
    assert calls == 1


def test_host_store_is_last_in_first_out() -> None:
    store = HostStore()
    tensors = [torch.randn(3, 4) for _ in range(4)]
    tickets = [store.put(x) for x in tensors]
    for x, ticket in reversed(list(zip(tensors, tickets, strict=True))):
        torch.testing.assert_close(store.take(ticket), x)
    buffers = {ticket.copy for ticket in tickets}
    again = [store.put(x) for x in tensors]
    assert {ticket.copy for ticket in again} == buffers
    for ticket in reversed(again):
        store.take(ticket)
    store.put(torch.randn(5, 4))  # another length
    assert not store._free


@pytest.mark.parametrize(("size", "kept"), [(1, 5), (2, 3), (5, 1)])
def test_the_host_keeps_one_input_of_a_group(size: int, kept: int) -> None:
    """All that was put there is taken, step after step, and its buffers serve again."""
    store = HostStore()
    model = GPT(NET, 11, kernel("sdpa"), seed=3)
    initialize(model, NET, 3, torch.device("cpu"))
    with mock.patch("longseq.engine.network.recompute.HostStore", return_value=store):
        apply_recompute_policy(model, RecomputePolicy("full", layers=size, inputs_on_host=True))
    tokens, positions = torch.zeros(1, 50, dtype=torch.int64), torch.arange(50)[None]
    for step in range(3):
        loss = model(tokens, tokens, torch.ones(1, 50), positions, forward_pass=step)
        assert (len(store._out), len(store._free)) == (kept, 0)
        loss.backward()
        assert (len(store._out), len(store._free)) == (0, kept)


@pytest.mark.parametrize("count", [1, 3, 4096, 12345, 387 << 21, (1 << 31) - 1])
def test_the_host_keeps_little_more_than_a_tensor(count: int) -> None:
    """Pinned memory comes in powers of two; 387 << 21 are a rank's inputs at 4.2 million tokens."""
    sizes = piece_sizes(count)
    assert sum(sizes) == count
    assert sum(1 << (size - 1).bit_length() for size in sizes) <= count * (1 + 1 / 128)
    assert len(sizes) <= 8


def test_what_was_taken_from_the_host_is_held_by_nobody_else() -> None:
    """The graph keeps a ticket to the step's end; with the tensor in it nothing would be saved."""
    store = HostStore()
    tickets = [store.put(torch.randn(3)) for _ in range(2)]
    for ticket in reversed(tickets):
        x = store.take(ticket)
        taken = weakref.ref(x)
        del x
        assert taken() is None


@pytest.mark.parametrize("documents", [None, ((30, 57, 100), (100,)), ((30, 57), ())])
@pytest.mark.parametrize("size", [16, 33, 100, 1000])
def test_chunks(documents: Any, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v, gradient = (
        torch.randn(100, 2, heads, 8, generator=generator) for heads in (4, 2, 2, 4)
    )
    for x in (q, k, v):
        x.requires_grad_()
    results = []
    ways = kernel("core"), chunked(size, on_host=False), chunked(size, on_host=True)
    for attend in ways:
        y = attend(q, k, v, documents, None)
        results.append((y.detach(), *torch.autograd.grad(y, (q, k, v), gradient)))
    for expected, found, copied in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(copied, found)  # places taken in turn hold no other chunk


@pytest.mark.parametrize("name", ["full, tiles", "full, on the host", "outside", None])
def test_chunks_of_recomputed_layers(name: str | None) -> None:
    """Bit for bit the same, wherever the chunks wait, and the layer's as it is written to fp32."""
    policy = WAYS[name] if name else None
    ways = [chunked(16, on_host) for on_host in (False, True)]
    here, there = (loss_and_gradients(policy, NET, way, torch.float32) for way in ways)
    for found, copied, expected in zip(here, there, loss_and_gradients(None), strict=True):
        assert torch.equal(copied, found)
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep_inputs", [True, False])
def test_what_waits_on_the_host_is_nowhere_else(
    keep_inputs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In backward neither q, k, v nor the output is here, and nothing must be made again."""
    q, k, v = (torch.randn(64, 1, 4, 8) for _ in range(3))
    gone: list[Any] = []
    count = 0

    def backward(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        assert not any(storage() for storage in gone)
        return block_backward(*arguments)

    monkeypatch.setattr(in_chunks, "blocks", lambda _: (block_forward, backward))
    attend = chunked(16, on_host=True)
    kept = DetachedAttention(
        lambda q, k, v: attend(q, k, v, None, None), q, k, v, keep_inputs=keep_inputs
    )
    gone += [weakref.ref(x.untyped_storage()) for x in (q, k, v, kept.output)]
    del q, k, v
    assert not kept.lacks_inputs
    kept.backward(torch.randn(64, 1, 4, 8))
    assert count == 4 * 5 / 2


def test_nothing_waits_where_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in evaluation nor in a forward pass that backward makes again."""
    copies = 0

    def waiting(self: HostChunks, chunk: torch.Tensor) -> torch.Tensor:
        nonlocal copies
        copies += 1
        return chunk.clone()

    monkeypatch.setattr(HostChunks, "waiting", waiting)
    q = torch.randn(64, 1, 4, 8, requires_grad=True)
    with torch.no_grad():
        chunked(16, on_host=True)(2 * q, q.detach(), q.detach(), None, None)
    assert copies == 0
    chunked(16, on_host=True)(q, q, q, None, None)
    assert copies == 4 * 4
