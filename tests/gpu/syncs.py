"""Where a step waits for the GPU: forward and backward nowhere, the update once, for its norm.

    python -m tests.gpu.syncs --out syncs.json [--device cuda|cpu] [--tiny]

On CUDA torch itself says what waits (torch.cuda.set_sync_debug_mode); on a CPU, where nothing does,
every operation is looked at that would (`Reads`). What DeepSpeed's own code waits for is counted
apart. The suite runs it on the CPU (tests/unit/training/test_syncs.py).
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.training.feed import Feed
from longseq.training.trainer import Trainer
from tests.gpu.networks import place
from tests.gpu.results import Results, step_options

ROOT = Path(__file__).parents[2]
COMMON = (
    "--num-attention-heads 4 --use-flash-attn-sdpa"
    f" --micro-batch-size 2 --split 1,1,0 --data-path {ROOT}/data/NC_001416.1.fa"
)
SIZES = {
    False: "--num-layers 4 --hidden-size 256 --seq-length 2048",
    True: "--num-layers 2 --hidden-size 32 --seq-length 64",
}
ROTARY = "--use-rotary-position-embeddings"
HALF = f"--bf16 {ROTARY} --compile off"
CASES = {
    "plain": HALF,
    "compiled": f"--bf16 {ROTARY}",  # where there is a GPU
    "fp32, learned positions": "--compile off",
    "two micro batches": f"{HALF} --global-batch-size 4",
    "documents": f"{HALF} --reset-attention-mask --reset-position-ids --eod-mask-loss",
    "dropout": f"{HALF} --hidden-dropout 0.1",
    "recomputed in tiles": f"{HALF} --recompute-granularity full --tile-size 24",
    "outside attention": f"{HALF} --recompute-granularity outside-attention --tile-size 24",
    "zero 1": f"{HALF} --zero-stage 1",
    "zero 2": f"{HALF} --zero-stage 2",
}
# What waits whatever it is given: values, or sizes that depend on values
VALUES = """_local_scalar_dense item is_nonzero equal nonzero masked_select _unique _unique2
    unique_dim unique_consecutive bincount""".split()
INDEXED = (Tensor.__getitem__, Tensor.__setitem__)
FACTORIES = (torch.zeros, torch.ones, torch.empty, torch.full, torch.arange)


class Reads(TorchDispatchMode):
    """Counts, by place, the operations within for which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if waits(func.overloadpacket.__name__, args, kwargs, result):
            self.places[where()] += 1
        return result


class HostTensors(TorchFunctionMode):
    """Counts tensors that are made of Python's numbers, or (but for scalars) without saying where:
    in host memory, from where they must be copied. A list as an index is made into one as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        placed = "device" in (kwargs or {})
        listed = func in INDEXED and any(isinstance(at, list) for at in _indices(args[1]))
        if func is torch.tensor or listed or (func in FACTORIES and not placed and result.dim()):
            self.places[f"{where()}, made in host memory"] += 1
        return result


def _indices(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def waits(name: str, args: Any, kwargs: Any, result: Any) -> bool:
    """Whether the operation `name` of aten needs a value of its tensors on the host."""
    if name in VALUES:
        return True
    if name in ("index", "index_put", "index_put_"):
        return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None and isinstance(args[-1], Tensor)
    if name in ("_to_copy", "copy_"):
        source = args[1] if name == "copy_" else args[0]
        return bool(result.is_cpu and not source.is_cpu)
    return False


def where() -> str:
    """The line of longseq or DeepSpeed that runs: the innermost one that is not torch's or ours."""
    frame: Any = sys._getframe(1)
    while frame:
        path = frame.f_code.co_filename
        if "/torch/" not in path and path != __file__:
            for root in ("deepspeed/", "longseq/", "tests/"):
                if f"/{root}" in path:
                    return f"{root}{path.rsplit(f'/{root}', 1)[1]}:{frame.f_lineno}"
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@contextmanager
def counted(device: torch.device) -> Iterator[Counter[str]]:
    """What waits within, by place; complete when it has been left."""
    places: Counter[str] = Counter()
    if device.type == "cpu":
        with HostTensors() as made, Reads() as reads:
            yield places
        places.update(made.places + reads.places)
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield places
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for warning in said:
        if "called a synchronizing" in str(warning.message):
            places[f"{warning.filename}:{warning.lineno}".removeprefix(f"{ROOT}/")] += 1


def look(flags: str, device: torch.device) -> dict[str, Counter[str]]:
    """What the second step of a training waits for, by part of it."""
    config = parse_config(f"{COMMON} {flags} --device {device.type}".split(), 1)
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    with Trainer(config, data.vocab_size, device) as trainer:
        feed = Feed(data.train, config, trainer.mesh, device)
        trainer.step(feed.step(0))
        with counted(device) as sending:
            batches = feed.step(trainer.consumed_samples)
            first = next(batches)
        with counted(device) as forward:  # the others come while a GPU is at work
            trainer.forward_backward(chain([first], batches))
        with counted(device) as update:
            trainer.update()
    return {"batches": sending, "forward and backward": forward, "update": update}


def judge(results: Results, what: str, places: Counter[str], allowed: int) -> None:
    """A row of what waits in one part of a step."""
    ours = Counter({at: n for at, n in places.items() if "deepspeed/" not in at})
    verdict = "ok" if ours.total() <= allowed else "wrong"
    seen = "; ".join(f"{at} {n}" for at, n in places.items())
    theirs = (places - ours).total()
    results.row(what, verdict, seen, ours=ours.total(), allowed=allowed, DeepSpeed=theirs)


def main(argv: list[str]) -> int:
    options = step_options(__doc__, argv)
    device = place(options.device)
    results = Results(options.out, "what", "ours", "allowed", "DeepSpeed")
    for name, flags in CASES.items():
        if results.has(f"{name}: update"):
            continue
        with results.kept(name):
            for part, places in look(f"{SIZES[options.tiny]} {flags}", device).items():
                if not results.has(f"{name}: {part}"):
                    judge(results, f"{name}: {part}", places, allowed=int(part == "update"))
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
