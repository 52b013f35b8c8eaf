"""The networks that speed is measured on, and a step's batch for one rank, on its device.

flags = network("GPT1_5B", 8192, "--bf16")
trainer = Trainer(parse_config(flags, 1), VOCABULARY)
trainer.step([random_batch(trainer, 8192)])
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from longseq.training.feed import MicroBatch
from longseq.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 8  # of nucleotides, as the head of a genome's network has it


def shape(key: str) -> tuple[int, int, int]:
    """Layers, hidden size and heads of a network of ALCF/models.sh; TINY is for a try on a CPU.

    KEY/12 is KEY with 12 heads.
    """
    if key == "TINY":
        return 2, 64, 4
    if "/" in key:
        name, heads = key.split("/")
        return *shape(name)[:2], int(heads)
    table = (ROOT / "ALCF" / "models.sh").read_text(encoding="utf-8")
    found = re.search(rf'"{key} +(\d+) +(\d+) +(\d+) ', table)
    assert found, f"{key} is not in ALCF/models.sh"
    return int(found[1]), int(found[2]), int(found[3])


def network(key: str, tokens: int, *flags: str) -> list[str]:
    """Flags of a run of it with rotary positions."""
    layers, hidden, heads = shape(key)
    words = f"--num-layers {layers} --hidden-size {hidden} --num-attention-heads {heads}"
    usual = f"--use-rotary-position-embeddings --seq-length {tokens} --lr 1e-4"
    return [*words.split(), *usual.split(), *flags]


def place(device: str) -> torch.device:
    """The CPU, or the first GPU."""
    return torch.device(device, 0) if device != "cpu" else torch.device(device)


def random_batch(trainer: Trainer, tokens: int, batch: int = 1) -> MicroBatch:
    """One sample, or `batch`, of random nucleotides."""
    device = trainer.device
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (batch, tokens + 1), generator=generator).to(device)
    weights = torch.full((batch, tokens), 1 / (batch * tokens), device=device)
    positions = torch.arange(tokens, device=device)[None]
    return MicroBatch(ids[:, :-1], ids[:, 1:], weights, positions, None)
