"""Our samples and tokenizer as Megatron-DeepSpeed's data sets.

Both trainers read the same tokens in the same order, so that their losses can be compared: sample i
of a training is ours by its number, whatever the layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.data.samples.samples import Samples


class Texts(Dataset[dict[str, torch.Tensor]]):
    """Sample i as it wants it: {"text": [s + 1] int64}, the tokens and the one after the last.

    repeat: after so many they come again, as every validation of ours reads the same samples.
    """

    def __init__(self, samples: Samples, length: int, repeat: int = 0) -> None:
        self.samples, self.length, self.repeat = samples, length, repeat

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        batch = self.samples.batch([index % self.repeat if self.repeat else index])
        return {"text": torch.cat((batch.tokens[0], batch.labels[0, -1:]))}


class TheTokenizer:
    """What it asks of a tokenizer: the vocabulary, and the token that ends a document."""

    def __init__(self, data: TrainingData) -> None:
        self.vocab_size = data.vocab_size
        self.eod = data.tokenizer.end_of_document


def datasets(data: TrainingData, config: Config) -> Any:
    """What it calls for its training, validation and test sets; it gives the numbers of samples."""

    def provide(counts: list[int]) -> tuple[Texts | None, Texts | None, None]:
        train, valid, _ = counts
        assert data.train is not None
        held_out = None
        if data.valid is not None and config.run.eval_iters:
            once = config.run.eval_iters * config.global_batch_size
            held_out = Texts(data.valid, max(valid, once) * 2, once)
        # One more than is asked for: a finished training has to be able to look for the next
        return Texts(data.train, train + config.global_batch_size), held_out, None

    return provide
