"""What the numbers of samples mean: which tokens sample i has, at one length of samples.

    now = numbering(data.cuts, config.data, config.training.seed)
    now["sha256"]     # of all that follows: where it is the same, so are the samples
    now["files"]      # of what is in the data sets, and of their shares
    now["order"]      # what takes samples out of them, by the field of its flag
    now["sets"]       # each data set's tokens, documents and hash, for people

What part is for training is told by what is in it: flags that are written otherwise, or a list of
names that has changed, say nothing of it. Masks and positions change no token, and are not here.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from longseq.config.arguments import Data
from longseq.data.datasets import Dataset, contents
from longseq.data.samples.split import Split
from longseq.host.atomic_files import Sha256

PART = "train"  # in `order`: a hash of the part for training
FLAGS = ("sample_overlap", "no_cross_document", "reverse_complement_prob")
CUTTING = ("split", "split_seed", "valid_records", "test_records")  # flags that choose the part


def numbering(cuts: Sequence[tuple[Dataset, Split]], options: Data, seed: int) -> dict[str, Any]:
    """Plain values, for a checkpoint."""
    held = contents([dataset for dataset, _ in cuts])
    order = {
        "seed": seed,
        **{name: getattr(options, name) for name in FLAGS},
        PART: _digest([split for _, split in cuts]),
    }
    whole = json.dumps([held["sha256"], order], sort_keys=True)
    return {
        "sha256": Sha256(whole.encode()).hexdigest(),
        "files": held["sha256"],
        "order": order,
        "sets": held["sets"],
    }


def _digest(splits: Sequence[Split]) -> str:
    """Of where the pieces for training lie in each data set, in their order."""
    sha = Sha256()
    for split in splits:
        part = split.parts["train"]
        sha.update(str(len(part.start)).encode())
        for column in (part.start, part.length, part.closed):
            sha.update(np.ascontiguousarray(column).data)
    return sha.hexdigest()
