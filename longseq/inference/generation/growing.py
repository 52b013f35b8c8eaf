"""Prompts → sequences, a token of each at a time.

batch = [Made.drawn("a/1", tokens, seed, 0, 0), …]
for step in grow(ready, batch, Sampling(), stops, count=500): …
batch[0].tokens, batch[0].ended
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from longseq.data.indexed.format import Tokens
from longseq.inference.generation.cache import Cache
from longseq.inference.generation.sampling import Sampling
from longseq.inference.network import Ready
from longseq.model.dropout import mix


@dataclass
class Made:
    """One sequence as it grows: its prompt, its tokens, and why it ended ("": it has not)."""

    name: str
    prompt: Tokens
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    ended: str = ""

    @classmethod
    def drawn(cls, name: str, prompt: Tokens, *numbers: int) -> Made:
        """One that is drawn from a generator of its own, which begins with `numbers`."""
        return cls(name, prompt, torch.Generator().manual_seed(mix(*numbers)))


def grow(
    ready: Ready, batch: list[Made], sampling: Sampling, stops: dict[int, str], count: int
) -> Iterator[int]:
    """Let the sequences of a batch grow by up to `count` tokens; yields how many have been."""
    begin = ready.trained.tokenizer.end_of_document
    lengths = torch.tensor([1 + len(one.prompt) for one in batch], device=ready.device)
    prompts = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
    for row, one in zip(prompts, batch, strict=True):
        row[: 1 + len(one.prompt)] = torch.tensor([begin, *one.prompt.tolist()])
    cache = Cache(ready.model, len(batch), int(lengths.max()) + count)
    hidden = cache.prefill(prompts.to(ready.device), lengths)
    for number in range(1, count + 1):
        logits = ready.model.head.logits(hidden)[0]
        tokens = sampling.next(logits, [one.generator for one in batch])
        for one, token in zip(batch, tokens.tolist(), strict=True):
            if not one.ended:
                one.tokens.append(token)
                one.ended = stops.get(token, "")
        yield number
        if all(one.ended for one in batch):
            return
        if number < count:
            hidden = cache.step(tokens.to(ready.device))
