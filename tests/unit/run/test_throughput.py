"""FLOP counts against hand-computed values, and against torch's own count of a plain network."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from longseq.config.arguments import Network
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.run.throughput import (
    Again,
    again,
    document_lengths,
    megatron_flops,
    model_flops,
    rates,
)

GPT30B = Network(num_layers=64, hidden_size=6144, num_attention_heads=64)
SMALL = Network(
    num_layers=3,
    hidden_size=64,
    num_attention_heads=8,
    num_key_value_heads=2,
    ffn_hidden_size=96,
    swiglu=True,
    make_vocab_size_divisible_by=40,
)
LARGE, LETTERS = 50304, 40  # their vocabularies


def eq3(net: Network, batch: int, s: int, factor: int) -> float:
    """Eq. 3 of arXiv:2104.04473, with its factor of 4 taken out."""
    h, layers = net.hidden_size, net.num_layers
    head = LARGE / (16 * layers * h)
    return 24 * batch * s * layers * h**2 * (1 + s / (6 * h) + head) * factor


@pytest.mark.parametrize("s", [2048, 131072])
@pytest.mark.parametrize(("recompute", "factor"), [("full", 4), ("none", 3), ("pointwise", 3)])
def test_megatron_count_is_eq3(s: int, recompute: str, factor: int) -> None:
    assert megatron_flops(GPT30B, LARGE, 2, s, again(recompute)) == pytest.approx(
        eq3(GPT30B, 2, s, factor), rel=1e-15
    )


def test_published_rise_with_the_sequence_is_mostly_the_count() -> None:
    """2k to 128k: the count of work a token rises fivefold by Eq. 3, much less by what is
    needed.
    """
    long, short = (megatron_flops(GPT30B, LARGE, 1, s, again("full")) for s in (131072, 2048))
    by_eq3 = long / short / 64
    needed = model_flops(GPT30B, LARGE, 1, 131072) / model_flops(GPT30B, LARGE, 1, 2048) / 64
    assert by_eq3 == pytest.approx((1 + 131072 / 36864) / (1 + 2048 / 36864), rel=0.01)
    assert needed == pytest.approx((1 + 131072 / 73728) / (1 + 2048 / 73728), rel=0.01)


def test_what_is_made_again_is_counted_and_nothing_else() -> None:
    """Of one layer of four a quarter; outside attention without its square; selective only that."""
    net = Network(num_layers=4, hidden_size=64, num_attention_heads=4)
    none, full = (megatron_flops(net, LARGE, 2, 256, again(way)) for way in ("none", "full"))
    square = 2 * 256 * 4 * 4 * 64 * 256
    linear = 2 * 256 * 4 * 24 * 64**2
    assert full - none == square + linear + 2 * 256 * 2 * 64 * LARGE * 3 / 4
    block = RecomputePolicy("full", method="block", layers=1)
    assert block.part(4) == 0.25
    quarter = megatron_flops(net, LARGE, 2, 256, again("full", block.part(4)))
    assert quarter - none == (full - none) / 4
    for way, more in (("outside-attention", linear), ("selective", square), ("pointwise", 0)):
        assert megatron_flops(net, LARGE, 2, 256, again(way)) - none == more


class Plain(torch.nn.Module):
    """The network of SMALL from plain layers, with attention over the whole square."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        h, kv, ffn = net.hidden_size, net.head_size * net.key_value_heads, net.ffn_size
        for i in range(net.num_layers):
            sizes = {"q": (h, h), "k": (h, kv), "v": (h, kv), "o": (h, h)}
            sizes |= {"gate": (h, ffn), "up": (h, ffn), "down": (ffn, h)}
            for name, (n_in, n_out) in sizes.items():
                setattr(self, f"{name}{i}", torch.nn.Linear(n_in, n_out, bias=False))
        self.head = torch.nn.Linear(h, LETTERS, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads, kv_heads = self.net.num_attention_heads, self.net.key_value_heads
        for i in range(self.net.num_layers):
            q, k, v = (
                getattr(self, name + str(i))(x).unflatten(-1, (n, -1)).transpose(-2, -3)
                for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads))
            )
            k, v = (t.repeat_interleave(heads // kv_heads, -3) for t in (k, v))
            mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
            x = x + getattr(self, f"o{i}")(mixed.transpose(-2, -3).flatten(-2))
            gate, up = getattr(self, f"gate{i}")(x), getattr(self, f"up{i}")(x)
            x = x + getattr(self, f"down{i}")(torch.nn.functional.silu(gate) * up)
        return self.head(x)


def counted(batch: int, s: int) -> int:
    x = torch.randn(
        batch, s, SMALL.hidden_size, requires_grad=True
    )  # as an embedding's output would
    with FlopCounterMode(display=False) as counter:
        Plain(SMALL)(x).sum().backward()
    return counter.get_total_flops()


def test_model_count_agrees_with_torch() -> None:
    """torch counts the whole square; we count half of it, so take half of the square off."""
    batch, s = 2, 48
    square = 3 * SMALL.num_layers * 4 * SMALL.hidden_size * batch * s * s
    assert model_flops(SMALL, LETTERS, batch, s) == counted(batch, s) - square / 2


def test_megatron_count_agrees_with_torch_on_the_whole_square() -> None:
    batch, s = 2, 48
    head = batch * s * 2 * SMALL.hidden_size * LETTERS
    assert (
        megatron_flops(SMALL, LETTERS, batch, s, Again())
        == counted(batch, s) - 3 * head + 9 / 4 * head
    )


def test_documents_only_attend_to_themselves() -> None:
    """Two halves: half of the attention; and boundaries in any order, with or without the end."""
    linear = (
        model_flops(SMALL, LETTERS, 1, 64)
        - 3 * SMALL.num_layers * 4 * SMALL.hidden_size * 64**2 / 2
    )
    halves = model_flops(SMALL, LETTERS, 1, 64, [32, 32])
    assert halves == linear + 3 * SMALL.num_layers * 4 * SMALL.hidden_size * 2 * 32**2 / 2
    assert document_lengths((10, 64), 64) == document_lengths((10,), 64) == [10, 54]
    assert document_lengths((), 64) == [64]


def test_documents_that_do_not_fill_the_step_are_an_error() -> None:
    with pytest.raises(ValueError, match="documents of 60 tokens"):
        model_flops(SMALL, LETTERS, 1, 64, [60])


def test_rates_are_per_rank() -> None:
    got = rates(SMALL, LETTERS, batch=4, seq_length=64, ranks=2, more=again("full"), seconds=0.5)
    assert dataclasses.asdict(got) == pytest.approx(
        {
            "samples_per_sec": 8.0,
            "tokens_per_sec": 512.0,
            "tflops": megatron_flops(SMALL, LETTERS, 4, 64, again("full")) / 1e12,
            "model_tflops": model_flops(SMALL, LETTERS, 4, 64) / 1e12,
        }
    )
