"""Parallelism applied to a plain GPT from outside, in a fixed order.

    model = GPT(...)             # plain, on the meta device
    parallelize(model, mesh)     # layers replaced by this rank's share
    initialize(model, ...)       # memory and values

On a mesh of one rank nothing is replaced: the model stays the plain one.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from longseq.model.gpt import GPT
from longseq.model.positions import Positions
from longseq.parallel.mesh import Group, Mesh
from longseq.parallel.ring import ring
from longseq.parallel.tensor import ColumnParallelLinear, RowParallelLinear, SumGradients, sum_out
from longseq.parallel.ulysses import Ulysses
from longseq.parallel.vocabulary import TableParallelEmbedding, VocabularyExchange, shard_table


def parallelize(model: GPT, mesh: Mesh, kernel: str = "sdpa") -> None:
    """Replace, in place, what the ranks of `mesh` share; `kernel`: that of a ring's blocks."""
    if mesh.tp.size > 1:
        _tensor_parallel(model, mesh)
    _sequence_axes(model, mesh, kernel)
    _dropout_regions(model, mesh)


def _sequence_axes(model: GPT, mesh: Mesh, kernel: str) -> None:
    """Ring innermost: Ulysses hands it whole runs of the ring's tokens for fewer heads."""
    net, tp = model.net, mesh.tp.size
    for layer in model.layers:
        if mesh.ring.size > 1:
            layer.attention.kernel = ring(mesh.ring, kernel)
        if mesh.ulysses.size > 1:
            layer.attention.exchange = Ulysses(
                mesh.ulysses, net.num_attention_heads // tp, net.key_value_heads // tp
            )


def _tensor_parallel(model: GPT, mesh: Mesh) -> None:
    net, tp, split = model.net, mesh.tp, mesh.sequence_parallel
    _tables(model, tp, split)
    groups = net.key_value_heads * net.head_size
    for layer in model.layers:
        attention, mlp = layer.attention, layer.mlp
        parts = (net.hidden_size, groups, groups)
        attention.qkv = ColumnParallelLinear(attention.qkv, tp, split, parts)
        attention.projection = RowParallelLinear(attention.projection, tp, split)
        mlp.up = ColumnParallelLinear(mlp.up, tp, split, (net.ffn_size,) * (2 if net.swiglu else 1))
        mlp.down = RowParallelLinear(mlp.down, tp, split)
        if split:
            layer.attention_norm.sum_gradients = layer.mlp_norm.sum_gradients = SumGradients(tp)
    if split:
        model.norm.sum_gradients = SumGradients(tp)


def _tables(model: GPT, tp: Group, split: bool) -> None:
    """The token table, the position table and the head, each by rows."""
    tied = model.head.weight is model.tokens.weight
    model.tokens = TableParallelEmbedding(model.tokens, tp, split)
    if model.positions is not None:
        _positions(model.positions, tp, split)
    model.head.weight = model.tokens.weight if tied else shard_table(model.head.weight, tp)
    model.head.exchange = VocabularyExchange(tp, split)


def _positions(table: Positions, tp: Group, split: bool) -> None:
    """Each block over the ranks; what they find is added up once for all blocks."""
    blocks = [TableParallelEmbedding(block, tp, split, joins=False) for block in table.blocks]
    table.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]  # as in Positions
    if not split:
        table.join = partial(sum_out, group=tp)


def _dropout_regions(model: GPT, mesh: Mesh) -> None:
    """Where tokens or heads are split, each rank drops its own; elsewhere all drop the same."""
    model.dropout.region = mesh.token_region
    for layer in model.layers:
        layer.attention_dropout.region = layer.mlp_dropout.region = mesh.token_region
        layer.attention.dropout.region = mesh.replicas.rank * mesh.tp.size + mesh.tp.rank
