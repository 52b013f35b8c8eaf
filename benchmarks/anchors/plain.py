"""The network of the default run in plain PyTorch, and the peak memory of one step of it in bf16.

Shares no code with longseq: the yardstick of speed and memory. `Plain(...)` is the network,
`plain_step` one iteration of a plain training loop. Ends with exit code 3 if it needs more than
--gib.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longseq.host.host_memory import peak_resident_gib, resident_gib

TOO_LARGE = 3


class PlainLayer(nn.Module):
    """Pre-norm attention and GELU MLP, [b, s, h]."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, s, h = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, h // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, s, h))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [b, heads, s, d] turned by cos, sin [s, d/2]."""
    one, two = x.chunk(2, -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


class Plain(nn.Module):
    """Rotary GPT with a tied head; tokens [b, s], labels [b, s] → mean loss."""

    def __init__(self, layers: int, hidden: int, heads: int, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, hidden)
        nn.init.normal_(self.table.weight, std=0.02)
        self.layers = nn.ModuleList(PlainLayer(hidden, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.head_size = hidden // heads

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        steps = torch.arange(0, self.head_size, 2, device=tokens.device) / self.head_size
        at = torch.arange(tokens.shape[1], device=tokens.device)
        angles = at[:, None] * 10000.0**-steps
        x = self.table(tokens)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = self.norm(x) @ self.table.weight.t()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def plain_step(model: Plain, optimizer: torch.optim.Optimizer, tokens: Tensor) -> float:
    """One iteration on tokens [b, s + 1]: forward, backward, clip, step."""
    loss: Tensor = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def watch(gib: float) -> None:
    """End the process when it takes more than it may."""
    while resident_gib() <= gib:
        time.sleep(0.05)
    os._exit(TOO_LARGE)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=50304)
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--recompute", action="store_true", help="layers, by torch's checkpoint")


def main(options: Namespace) -> None:
    threading.Thread(target=watch, args=(options.gib,), daemon=True).start()
    model = Plain(4, 256, 8, options.vocabulary).bfloat16()
    if options.recompute:
        for layer in model.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    plain_step(model, optimizer, torch.randint(0, options.vocabulary, (1, options.tokens + 1)))
    peak = peak_resident_gib()
    print(peak)
    sys.stdout.flush()
    os._exit(TOO_LARGE if peak > options.gib else 0)
