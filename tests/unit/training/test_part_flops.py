"""FLOPs by part of a small network against those of the formulas, whatever backward makes again."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from longseq.attention.kernel import kernel
from longseq.config.checks import parse_config
from longseq.engine.network.initialize import initialize
from longseq.engine.network.recompute import in_groups
from longseq.memory.recomputing.layer import RecomputeOptions, recomputed
from longseq.model.gpt import GPT
from longseq.training.part_flops import PartFlops, flops_text

S, H, V = 64, 32, 128
PASSES = 2
TOKENS = PASSES * S  # of a pass one sample


def counted(options: RecomputeOptions | None, group: int) -> dict[str, int]:
    """FLOPs by part of two micro batches through two layers."""
    flags = f"--num-layers 2 --hidden-size {H} --num-attention-heads 4 --seq-length {S}"
    config = parse_config(flags.split(), 1)
    with torch.device("meta"):
        model = GPT(config.network, V, kernel("sdpa"), 1)
    initialize(model, config.network, 1, torch.device("cpu"))
    if options is not None:
        for layer in model.layers:
            layer.run = partial(recomputed, options=options)
    if group > 1:
        model.run_layers = partial(in_groups, group)
    tokens = torch.randint(V, (1, S + 1), generator=torch.Generator().manual_seed(1))
    weights, positions = torch.full((1, S), 1 / S), torch.arange(S)[None]
    with PartFlops(model) as counter:
        for _ in range(PASSES):
            model(tokens[:, :-1], tokens[:, 1:], weights, positions).backward()
    return {part: sum(kinds.values()) for part, kinds in counter.get_flop_counts().items()}


# How often a product of forward's size is made: backward makes two, of the kernel two and a half
NONE = (None, 1, 3, 3, 3.5)
FULL = (RecomputeOptions(), 1, 5, 4, 4.5)  # q, k and v again for the kernel, and again for norm
TILES = (RecomputeOptions(tile=16), 1, 5, 4, 4.5)
KEPT = (RecomputeOptions(keep_attention=True), 1, 5, 4, 3.5)
GROUP = (RecomputeOptions(), 2, 6, 5, 5.5)  # and once more from the input of both layers


@pytest.mark.parametrize(
    ("options", "group", "qkv", "others", "kernel_"),
    [NONE, FULL, TILES, KEPT, GROUP],
    ids=["none", "full", "tiles", "kept", "group"],
)
def test_every_part_has_what_its_formula_gives(
    options: RecomputeOptions | None, group: int, qkv: float, others: float, kernel_: float
) -> None:
    product = 2 * TOKENS * H * H
    square = 4 * PASSES * S * S * H
    attention = {"qkv": 3 * qkv * product, "projection": others * product}
    mlp = {"up": 4 * others * product, "down": 4 * others * product}
    layer = sum(attention.values()) + sum(mlp.values()) + kernel_ * square
    head = 3 * 2 * TOKENS * H * V
    expected = {"Global": 2 * layer + head, "head": head, "layers": 2 * layer}
    for n in range(2):
        expected[f"layers.{n}"] = layer
        for part, products in (("attention", attention), ("mlp", mlp)):
            expected[f"layers.{n}.{part}"] = sum(products.values())
            expected |= {f"layers.{n}.{part}.{name}": x for name, x in products.items()}
    assert counted(options, group) == expected


def test_the_table_says_which_attention_it_has() -> None:
    counts = {"Global": {"mm": 60, "bmm": 40}, "layers": {"mm": 60}, "head": {"bmm": 40}, "x": {}}
    *lines, last = flops_text(counts, "sdpa").splitlines()
    assert [line.split() for line in lines] == [
        ["100", "100%", "the", "whole", "step"],
        ["40", "40.0%", "head"],
        ["60", "60.0%", "layers"],
    ]
    assert last == "attention is counted as a whole square, as torch does; causal is half of it"
    assert flops_text(counts, "v3").splitlines()[-1] == (
        "without attention: torch does not count that of FlashAttention-3"
    )
