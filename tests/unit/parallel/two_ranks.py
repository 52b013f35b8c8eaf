"""Run on two ranks: each function of longseq.parallel against plain torch on the whole tensors.

Every rank draws the same whole tensors, takes its part, and compares what it gets with what one
rank computes alone. Rank 0 prints the names of what has agreed as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.attention.kernel import Documents, kernel
from longseq.attention.zigzag import held_spans
from longseq.config.arguments import Layout
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.model.gpt import Head
from longseq.model.norm import Norm
from longseq.parallel import collectives, mpi
from longseq.parallel.agreement import torch_ranks
from longseq.parallel.mesh import Group, Mesh
from longseq.parallel.ring import ring
from longseq.parallel.sharding import sharding_of
from longseq.parallel.tensor import ColumnParallelLinear, RowParallelLinear, SumGradients
from longseq.parallel.ulysses import Ulysses
from longseq.parallel.vocabulary import TableParallelEmbedding, VocabularyExchange, shard_table

S, B, H = 12, 2, 8
close = torch.testing.assert_close


def whole(*shape: int, seed: int = 1) -> Tensor:
    """The same numbers on every rank."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def part(x: Tensor, group: Group) -> Tensor:
    """This rank's rows, with a gradient of their own."""
    return x.detach().chunk(group.size)[group.rank].clone().requires_grad_()


def collectives_agree(group: Group) -> None:
    mine, both = whole(4, 3, seed=group.rank), [whole(4, 3, seed=rank) for rank in (0, 1)]
    close(collectives.all_reduce(mine.clone(), group), both[0] + both[1])
    close(collectives.all_reduce(mine.clone(), group, maximum=True), torch.maximum(*both))
    close(collectives.all_gather(mine, group), torch.cat(both))
    close(collectives.reduce_scatter(mine, group), (both[0] + both[1]).chunk(2)[group.rank])
    assert torch.equal(mine, both[group.rank])  # which others may still need
    close(collectives.shift(mine, group).wait(), both[1 - group.rank])
    pieces = [mine[:1], mine[1:]]  # row 0 for rank 0, the others for rank 1
    shapes = [(1, 3) if group.rank == 0 else (3, 3)] * 2
    found = collectives.all_to_all(pieces, shapes, group)
    for piece, theirs in zip(found, both, strict=True):
        close(piece, theirs[:1] if group.rank == 0 else theirs[1:])


def in_pieces(group: Group) -> None:
    """Each message of several: of 96 bytes in pieces of 40, sums in pieces of 5 numbers."""
    assert group.comm is not None
    with mock.patch.object(mpi, "LARGEST", 40):
        collectives_agree(group)


def half_precision_travels(group: Group) -> None:
    """bfloat16, which numpy has not, through sums and messages; a sum in rank order."""
    mine = torch.full((2, 2), 1.5 + group.rank, dtype=torch.bfloat16)
    close(collectives.all_reduce(mine.clone(), group), torch.full_like(mine, 4))
    close(collectives.reduce_scatter(mine, group), torch.full_like(mine[:1], 4))


def linears(group: Group, split: bool) -> None:
    """Column then row parallel is the two linears; the gradients are the pieces of theirs. Between
    them samples lie one behind the other, as what a ring's attention gives does.
    """
    up, down = nn.Linear(H, 16).double(), nn.Linear(16, H).double()
    with torch.no_grad():
        for number, p in enumerate([*up.parameters(), *down.parameters()]):
            p.copy_(whole(*p.shape, seed=number))
    first = ColumnParallelLinear(up, group, split)
    second = RowParallelLinear(down, group, split)
    order = slice(8 * group.rank, 8 * group.rank + 8)
    x = whole(S, B, H, seed=9).requires_grad_()
    mine = part(x, group) if split else x.detach().clone().requires_grad_()
    between = F.gelu(first(mine)).transpose(0, 1).contiguous().transpose(0, 1)
    y = second(between)
    expected = down(F.gelu(up(x)))
    close(y, expected.chunk(2)[group.rank] if split else expected)
    gradient = whole(S, B, H, seed=5)
    expected.backward(gradient)
    y.backward(gradient.chunk(2)[group.rank] if split else gradient)
    assert x.grad is not None
    close(mine.grad, x.grad.chunk(2)[group.rank] if split else x.grad)
    assert up.weight.grad is not None
    assert up.bias.grad is not None
    assert down.weight.grad is not None
    close(first.weight.grad, up.weight.grad[order])
    close(first.bias.grad, up.bias.grad[order])
    close(second.weight.grad, down.weight.grad[:, order])
    close(second.bias.grad, down.bias.grad)
    assert sharding_of(first.weight) is not None
    assert sharding_of(second.bias) is None


def norms(group: Group) -> None:
    """Under sequence parallelism each rank's gradient of a norm is the sum over all tokens."""
    norm, plain = Norm(H, "layernorm", 1e-5).double(), Norm(H, "layernorm", 1e-5).double()
    norm.sum_gradients = SumGradients(group)
    x, gradient = whole(S, B, H), whole(S, B, H, seed=2)
    norm(part(x, group)).backward(gradient.chunk(2)[group.rank])
    plain(x).backward(gradient)
    for found, expected in zip(norm.parameters(), plain.parameters(), strict=True):
        close(found.grad, expected.grad)


def tables(group: Group, split: bool) -> None:
    """An embedding by rows, and the loss, token losses and logits of a head by rows."""
    vocabulary, rows = 13, 16
    plain = nn.Embedding(rows, H, _weight=whole(rows, H)).double()
    ids, labels = (
        torch.randint(vocabulary, (S, B), generator=torch.Generator().manual_seed(n))
        for n in (1, 2)
    )
    weights = whole(S, B, seed=3).abs().float()
    embedding = TableParallelEmbedding(plain, group, split)
    head = Head(plain.weight, vocabulary)
    head.weight, head.exchange = shard_table(plain.weight, group), VocabularyExchange(group, split)
    mine = embedding(ids)
    expected = plain(ids)
    close(mine, expected.chunk(2)[group.rank] if split else expected)
    logits = (expected @ plain.weight.t())[..., :vocabulary]
    each = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    loss = (each * weights.flatten()).sum()
    loss.backward()
    found = head(mine, labels, weights)
    found.backward()
    assert plain.weight.grad is not None
    assert head.weight.grad is not None
    assert embedding.weight.grad is not None
    ours = head.weight.grad + embedding.weight.grad
    close(ours, plain.weight.grad.chunk(2)[group.rank], rtol=1e-5, atol=1e-5)
    close(found, loss)
    close(head.losses(mine, labels).flatten(), each, rtol=1e-5, atol=1e-5)
    close(head.logits(mine), logits)


def attention(group: Group, way: str, heads: int, groups: int, documents: Documents) -> None:
    """Ulysses around the core kernel, or the ring, against the core kernel on all tokens."""
    s = 16
    inputs = [whole(s, B, n, 8, seed=n).float().requires_grad_() for n in (heads, groups, groups)]
    whole_q, whole_k, whole_v = inputs
    expected = kernel("core")(whole_q, whole_k, whole_v, documents, None)
    gradient = whole(s, B, heads, 8, seed=7).float()
    expected.backward(gradient)
    place = group.rank, group.size
    axes = (place, (0, 1)) if way == "ulysses" else ((0, 1), place)
    at = torch.cat([torch.arange(*span) for span in held_spans(s, *axes, documents is not None)])
    mine = [x.detach()[at].clone().requires_grad_() for x in inputs]
    q, k, v = mine
    if way == "ulysses":
        exchange = Ulysses(group, heads, groups)
        q, k, v = exchange.scatter_heads(q, k, v)
        y = exchange.gather_heads(kernel("core")(q, k, v, documents, None))
    else:
        y = ring(group)(q, k, v, documents, None)
    close(y, expected[at], rtol=1e-4, atol=1e-5)
    y.backward(gradient[at])
    for x, reference in zip(mine, inputs, strict=True):
        assert reference.grad is not None
        close(x.grad, reference.grad[at], rtol=1e-4, atol=1e-5)


def by_hand(group: Group) -> None:
    """The exchange's own gradients are autograd's, where heads are shared between ranks too."""
    exchange = Ulysses(group, 6, 3)
    mine = [whole(4, B, n, 8, seed=n + group.rank).requires_grad_() for n in (6, 3, 3)]
    inside = exchange.scatter_heads(*mine)
    gradients = [torch.randn_like(x) for x in inside]
    expected = torch.autograd.grad(inside, mine, gradients)
    for found, reference in zip(exchange.scatter_heads_gradient(*gradients), expected, strict=True):
        close(found, reference)
    y = inside[0].detach().requires_grad_()
    outside = exchange.gather_heads(y)
    (reference,) = torch.autograd.grad(outside, y, torch.ones_like(outside))
    close(exchange.gather_heads_gradient(torch.ones_like(outside)), reference)


def ranks_agree(group: Group) -> None:
    ranks = torch_ranks()
    assert (ranks.rank, ranks.size) == (group.rank, 2)
    assert ranks.gather({"rank": ranks.rank}) == [{"rank": 0}, {"rank": 1}]
    assert ranks.largest(10 - ranks.rank) == 10
    ranks.wait()


DOCUMENTS = ((5, 16), (3, 11))  # a row's last document may be left open
CHECKS: dict[str, Callable[[Group], None]] = {
    "collectives": collectives_agree,
    "collectives, in pieces": in_pieces,
    "bfloat16": half_precision_travels,
    "linears": lambda group: linears(group, split=False),
    "linears, split": lambda group: linears(group, split=True),
    "norms, split": norms,
    "tables": lambda group: tables(group, split=False),
    "tables, split": lambda group: tables(group, split=True),
    "ulysses": lambda group: attention(group, "ulysses", 4, 2, None),
    "ulysses, one group": lambda group: attention(group, "ulysses", 3, 1, None),
    "ulysses, uneven": lambda group: attention(group, "ulysses", 6, 3, DOCUMENTS),
    "ulysses by hand": by_hand,
    "ring": lambda group: attention(group, "ring", 4, 2, None),
    "ring, documents": lambda group: attention(group, "ring", 4, 4, DOCUMENTS),
    "ring, one group": lambda group: attention(group, "ring", 4, 1, None),
    "ring, three groups": lambda group: attention(group, "ring", 6, 3, DOCUMENTS),
    "agreement": ranks_agree,
}
# Messages as they start on GPUs, here over gloo
BATCHED = ("collectives", "bfloat16", "linears, split", "tables, split", "ulysses, uneven", "ring")


def main() -> None:
    start_distributed(torch.device("cpu"))
    mesh = Mesh.create(Layout(tensor_model_parallel_size=2, world_size=2))
    agreed = []
    for name, check in CHECKS.items():
        check(mesh.tp)
        agreed.append(name)
    for name in BATCHED:
        CHECKS[name](replace(mesh.tp, batched=True, comm=None))
        agreed.append(f"{name}, batched")
    if dist.get_rank() == 0:
        print(json.dumps(agreed), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
