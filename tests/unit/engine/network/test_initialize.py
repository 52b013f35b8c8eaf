"""First values depend on name and seed alone, whatever the cut."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from longseq.attention.kernel import kernel
from longseq.config.arguments import Network
from longseq.config.checks import parse_config
from longseq.engine.network import initialize as module
from longseq.engine.network.initialize import first_value
from longseq.model.gpt import GPT
from longseq.parallel.sharding import Sharding, shard_parameter

NET = parse_config(["--num-layers", "8"], 1).network


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("parts", [(48,), (24, 12, 12)])
@pytest.mark.parametrize("block", [7, 1 << 22])
def test_pieces_are_cut_from_the_whole(
    dim: int, parts: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    plain = nn.Parameter(torch.empty(48, 48))
    whole = first_value("layers.0.mlp.up.weight", plain, NET, seed=5)
    pieces = [
        first_value("layers.0.mlp.up.weight", shard_parameter(plain, sharding), NET, seed=5)
        for sharding in (Sharding(dim, parts, rank, 2) for rank in (0, 1))
    ]
    rows = [p.split([n // 2 for n in parts], dim) for p in pieces]
    joined = torch.cat([piece for pair in zip(*rows, strict=True) for piece in pair], dim)
    assert torch.equal(joined, whole)


def test_scale_and_constants() -> None:
    big = torch.empty(512, 512)
    assert float(first_value("layers.0.mlp.up.weight", big, NET, 1).std()) == pytest.approx(
        0.02, rel=0.02
    )
    down = first_value("layers.0.mlp.down.weight", big, NET, 1)
    assert float(down.std()) == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    assert bool((first_value("norm.weight", torch.empty(8), NET, 1) == 1).all())
    assert bool((first_value("norm.bias", torch.empty(8), NET, 1) == 0).all())


def test_another_seed_or_name_is_another_network() -> None:
    shape = torch.empty(8, 8)
    one = first_value("a.weight", shape, NET, 1)
    assert not torch.equal(one, first_value("a.weight", shape, NET, 2))
    assert not torch.equal(one, first_value("b.weight", shape, NET, 1))


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--use-rotary-position-embeddings",
        "--swiglu --disable-bias-linear --normalization rmsnorm --num-key-value-heads 2",
        "--untie-embeddings-and-output-weights --ffn-hidden-size 100",
    ],
)
def test_parameter_count_is_the_models(flags: str) -> None:
    net: Network = parse_config(flags.split(), 1).network
    with torch.device("meta"):
        model = GPT(net, 16, kernel("sdpa"), 1)
    counted = sum(p.numel() for p in model.parameters())
    assert net.parameter_count(net.padded_vocabulary(16)) == counted
