"""What every rank of test_scored.py runs: a network scores, embeds, generates on several layouts.

python tests/parallel/scored.py FOLDER      (an empty folder; under mpiexec, see ranks.py)
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from longseq.checkpoint.trained import find_trained
from longseq.config.arguments import Layout
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.inference.embedding.rows import embedded
from longseq.inference.flags import Computing, network_config
from longseq.inference.forward import scored
from longseq.inference.generation import growing
from longseq.inference.generation.fasta import no_letters
from longseq.inference.generation.generate import Asked, Prompt, _make
from longseq.inference.generation.growing import Made, grow
from longseq.inference.generation.sampling import Sampling
from longseq.inference.network import Ready, make_ready
from longseq.inference.sequences import Sequence
from longseq.inference.windows import Cutting
from longseq.parallel.agreement import Ranks, torch_ranks
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

LENGTH = 1024
LAYOUTS = {
    "tp": Layout(tensor_model_parallel_size=2),
    "tp, sequence split": Layout(tensor_model_parallel_size=2, sequence_parallel=True),
    "ulysses": Layout(ds_sequence_parallel_size=2),
    "ring": Layout(context_parallel_size=2),
    "dp": Layout(),
}
CPU = torch.device("cpu")


def sequences() -> Iterator[Sequence]:
    """Records of lengths that no split divides evenly."""
    generator = np.random.default_rng(5)
    for length in (1024, 7, 613, 1, 1023, 300):
        tokens = generator.integers(0, 4, length).astype(np.uint8)
        yield Sequence(f"r{length}", tokens, length)


def made(folder: Path, layout: Layout, ranks: Ranks) -> Ready:
    trained = find_trained(folder, print, ranks)
    computing = Computing(tile_size=100, micro_batch_size=2)
    config = network_config(trained, layout, computing, ranks.size)
    return make_ready(trained, config, CPU, ranks)


def losses(ready: Ready) -> np.ndarray:
    """Of all tokens, one after the other."""
    return np.concatenate([each for _, each in scored(ready, sequences(), Cutting(LENGTH))])


def states(ready: Ready) -> np.ndarray:
    """Of each token behind the first layer, and the mean of each record behind the last norm."""
    cuts = Cutting(LENGTH, 500, 200)
    each = [rows for _, rows, _ in embedded(ready, sequences(), cuts, 1, True)]
    means = embedded(ready, sequences(), cuts, None, False)
    return np.concatenate([*each, *(rows for _, rows, _ in means)])


def likeliest(ready: Ready) -> list[list[int]]:
    """What follows two prompts of different lengths."""
    prompts = [np.array([0, 1, 2]), np.array([3])]
    batch = [Made("", prompt, torch.Generator()) for prompt in prompts]
    for _ in grow(ready, batch, Sampling(0), {}, 40):
        pass
    return [one.tokens for one in batch]


def written(ready: Ready, path: Path) -> list[int]:
    """Write five samples as `generate` does; how many each rank made."""
    count = 0

    def counted(ready: Ready, batch: list[Made], *more: Any) -> Iterator[int]:
        nonlocal count
        count += len(batch)
        return grow(ready, batch, *more)

    asked = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "seed": 3, "max_new_tokens": 30}
    options = Namespace(**asked, no_end=True, with_prompt=False, output=path)
    prompts = [Prompt(f"a/{n}", np.array([0, 1, 2]), 0, n) for n in range(5)]
    silent = no_letters(ready.trained.tokenizer)
    asking = Asked(ready.trained, ready.config, prompts, {}, silent)
    with patch.object(growing, "grow", counted):
        _make(asking, options, CPU, ready.ranks)
    return ready.ranks.gather(count)


def main() -> None:
    warnings.simplefilter("ignore")
    start_distributed(CPU)
    ranks, folder = torch_ranks(), Path(sys.argv[1])
    if ranks.rank == 0:
        write_run(make_model(f"{LLAMA} --init-method-std 0.1", length=LENGTH), folder)
    ranks.wait()
    one = made(folder, Layout(), Ranks())
    alone, seen = losses(one), states(one)
    largest = {}
    for name, layout in LAYOUTS.items():
        ready = made(folder, layout, ranks)
        largest[name] = float(np.abs(losses(ready) - alone).max())
        largest[f"{name}, states"] = float(np.abs(states(ready) - seen).max())
    found = {
        "tokens": len(alone),
        "largest": largest,
        "generated alone": likeliest(one),
        "generated": likeliest(made(folder, LAYOUTS["tp"], ranks)),
        "made": {name: written(made(folder, LAYOUTS[name], ranks), folder / f"{name}.fa")
                 for name in ("tp", "dp")},
    }  # fmt: skip
    written(one, folder / f"alone-{ranks.rank}.fa")
    if os.environ["RANK"] == "0":
        print(json.dumps(found))
    stop_distributed()


if __name__ == "__main__":
    main()
