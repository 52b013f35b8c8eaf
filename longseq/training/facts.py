"""What a run's report shows beside its metrics, for summary.json: planned memory, and the data.

memory_facts(config, vocabulary, policy, "cuda", capacity)      # bytes by kind
data_facts(data)                                                # documents, lengths, fill
"""

from __future__ import annotations

from typing import Any

import numpy as np

from longseq.config.arguments import Config
from longseq.data.datasets import Dataset
from longseq.data.opening import TrainingData
from longseq.memory.need import KINDS, needed
from longseq.memory.recompute_policy import RecomputePolicy

LENGTHS = {"shortest": 0.0, "median": 0.5, "95%": 0.95, "longest": 1.0}


def memory_facts(
    config: Config, vocabulary: int, policy: RecomputePolicy, device: str, capacity: float
) -> dict[str, Any]:
    """Bytes of a rank as planned, by kind, at the moment at which it holds most; capacity: bytes
    that it can have of its GPU or its host.
    """
    need = needed(config, vocabulary, policy, device)
    return {
        "planned": {KINDS[kind]: round(size) for kind, size in need.by_kind.items() if size},
        "in host memory": {kind: round(size) for kind, size in need.host.items() if size},
        "moment": need.moment,
        "capacity": round(capacity),
    }


def data_facts(data: TrainingData) -> dict[str, Any]:
    """The parts that a run reads, and each data set's documents with their lengths in tokens."""
    parts = (("train", data.train), ("valid", data.valid))
    return {
        "parts": {
            name: {"tokens": samples.num_tokens, "fill": samples.fill}
            for name, samples in parts
            if samples is not None
        },
        "sets": [_set_facts(dataset) for dataset, _ in data.cuts],
    }


def _set_facts(dataset: Dataset) -> dict[str, Any]:
    lengths = np.diff(dataset.tokens.document_offsets)
    at = list(LENGTHS.values()) if len(lengths) else []
    marks = np.quantile(lengths, at, method="lower")
    return {
        "name": dataset.prefix,
        "documents": dataset.tokens.num_documents,
        "tokens": dataset.tokens.num_tokens,
        "lengths": dict(zip(LENGTHS, map(int, marks), strict=False)),
    }
