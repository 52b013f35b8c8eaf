"""Pieces and wholes, and names."""

from __future__ import annotations

import pytest
import torch

from longseq.config.arguments import Network
from longseq.upstream.names import cut, join, our_name

NET = Network(num_layers=2, hidden_size=8, num_attention_heads=4, swiglu=True, ffn_hidden_size=12)


@pytest.mark.parametrize(
    ("name", "shape", "dim"),
    [
        ("layers.0.attention.qkv.weight", (24, 8), 0),
        ("layers.0.attention.qkv.bias", (24,), 0),
        ("layers.0.mlp.up.weight", (24, 8), 0),
        ("layers.1.mlp.down.weight", (8, 12), 1),
        ("layers.1.attention.projection.weight", (8, 8), 1),
        ("tokens.weight", (16, 8), 0),
        ("layers.1.attention.projection.bias", (8,), None),
        ("norm.weight", (8,), None),
    ],
)
def test_pieces_make_the_whole(name: str, shape: tuple[int, ...], dim: int | None) -> None:
    whole = torch.randn(shape)
    pieces = [cut(whole, name, NET, rank, 2) for rank in range(2)]
    assert torch.equal(join(pieces, name, NET), whole)
    if dim is None:
        assert all(torch.equal(piece, whole) for piece in pieces)
    else:
        assert pieces[0].shape[dim] * 2 == shape[dim]


def test_a_rank_holds_its_heads_of_queries_keys_and_values() -> None:
    whole = torch.arange(24.0)[:, None].expand(24, 8)
    second = cut(whole, "layers.0.attention.qkv.weight", NET, 1, 2)
    assert second[:, 0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]


@pytest.mark.parametrize(
    ("theirs", "piped", "ours"),
    [
        ("language_model.embedding.word_embeddings.weight", False, "tokens.weight"),
        ("language_model.embedding.position_embeddings.weight", False, "positions"),
        ("language_model.output_layer.weight", False, "head.weight"),
        (
            "language_model.encoder.layers.7.mlp.dense_4h_to_h.bias",
            False,
            "layers.7.mlp.down.bias",
        ),
        ("language_model.encoder.final_layernorm.weight", False, "norm.weight"),
        ("tied_modules.embed.word_embeddings.weight", True, "tokens.weight"),
        ("2.self_attention.query_key_value.weight", True, "layers.0.attention.qkv.weight"),
        ("6.bias", True, "norm.bias"),
        ("7.lm_head.weight", True, "head.weight"),
    ],
)
def test_names(theirs: str, piped: bool, ours: str) -> None:
    assert our_name(theirs, piped) == ours
