"""Step 5: the same run twice, and a run that was resumed, bit for bit.

    python -m tests.gpu.repeat [--device cuda|cpu] [--out FILE]

Processes of pretrain_gpt.py train in bf16 on documents, with dropout and recomputation. With
--deterministic-mode a run of 8 steps must be the same twice, and the same as 4 steps, a checkpoint
and 4 more: every loss, every norm and every byte of the last checkpoint's tensors. How far a run
repeats itself without that flag is written down.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from longseq.checkpoint.format.tensor_files import RANDOM
from longseq.data.indexed.writer import IndexedWriter
from tests.gpu.results import Results, step_options

ROOT = Path(__file__).parents[2]
STEPS = 8
LETTERS, END = 4, 4  # A, C, G, T are tokens 0 to 3; the end of a document follows them
COMMON = """
    --tokenizer-type nucleotide --bf16 --hidden-dropout 0.1 --recompute-granularity
    outside-attention --reset-attention-mask --reset-position-ids --use-rotary-position-embeddings
    --use-flash-attn-sdpa --lr-decay-style constant --micro-batch-size 2 --global-batch-size 4
    --eval-iters 0
""".split()
SMALL = "--num-layers 2 --hidden-size 128 --num-attention-heads 4 --seq-length 512".split()
LARGE = "--num-layers 6 --hidden-size 512 --num-attention-heads 8 --seq-length 8192".split()
REPEATING = ["--deterministic-mode"]


@dataclass(frozen=True)
class Run:
    """What a run leaves: losses and norms as they were written, and its last tensors' digests."""

    steps: tuple[tuple[float, float], ...]
    tensors: tuple[str, ...]


class Bench:
    """A folder with tokens, where runs are made."""

    def __init__(self, folder: Path, device: str, tiny: bool) -> None:
        self.folder = folder
        self.flags = ["--device", device, "--data-path", str(folder / "tokens"), *COMMON]
        self.flags += SMALL if tiny or device == "cpu" else LARGE
        write_tokens(folder / "tokens")

    def run(self, name: str, steps: int = STEPS, more: Sequence[str] = (), load: str = "") -> Run:
        """Train up to step `steps`, from where run `load` has ended; what this part leaves."""
        folder = self.folder / name
        folder.mkdir()
        words = [*self.flags, "--train-iters", str(steps), "--run-dir", str(folder)]
        words += ["--save", str(folder / "checkpoints"), *more]
        words += ["--load", str(self.folder / load / "checkpoints")] if load else []
        train(words, folder / "output.txt")
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        tensors = sorted((folder / "checkpoints" / f"step-{steps}").glob("*.safetensors"))
        return Run(
            tuple((record["lm_loss"], record["grad_norm"]) for record in records),
            tuple(digest_of(path) for path in tensors),
        )


def write_tokens(prefix: Path) -> None:
    """Some documents of random letters, as a prepared pair."""
    generator = np.random.default_rng(1)
    writer = IndexedWriter(str(prefix), np.uint8)
    for length in generator.integers(200, 5000, 200):
        writer.add(generator.integers(0, LETTERS, length, dtype=np.uint8))
        writer.add(np.array([END], dtype=np.uint8))
        writer.end_document()
    writer.finish()


def train(words: Sequence[str], output: Path) -> None:
    """One process of pretrain_gpt.py; RuntimeError with its last lines where it fails."""
    with output.open("w") as file:
        done = subprocess.run(
            [sys.executable, str(ROOT / "pretrain_gpt.py"), *words],
            stdout=file,
            stderr=file,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {output.read_text()[-600:]}")


def digest_of(path: Path) -> str:
    """Of all tensors in a file: weights and moments. The generators' states, from which a training
    draws nothing, are another in each process.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        if name != RANDOM:
            sha.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def first_difference(these: Run, those: Run) -> str:
    """Where two runs part, empty if nowhere; a resumed run is compared from where it began."""
    steps = min(len(these.steps), len(those.steps))
    for number, (a, b) in enumerate(zip(these.steps[-steps:], those.steps[-steps:], strict=True)):
        if a != b:
            return f"step {STEPS - steps + number + 1} is {a} and {b}"
    return "" if these.tensors == those.tensors and these.tensors else "the last tensors differ"


def main(argv: Sequence[str] | None = None) -> int:
    options = step_options(__doc__, argv)
    results = Results(options.out)
    parent = options.out.parent if options.out else None
    twice, resumed = "the same run twice", "8 steps against 4, a checkpoint and 4"
    free = "the same run twice, without --deterministic-mode"
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        bench = Bench(Path(folder), options.device, options.tiny)
        if not (results.has(twice) and results.has(resumed)):
            with results.kept(twice):
                whole = bench.run("whole", more=REPEATING)
                why = first_difference(bench.run("again", more=REPEATING), whole)
                results.row(twice, "wrong" if why else "ok", why)
            with results.kept(resumed):
                bench.run("half", STEPS // 2, REPEATING)
                rest = bench.run("rest", more=REPEATING, load="half")
                why = first_difference(rest, whole)
                if len(rest.steps) != STEPS // 2:
                    why = f"the resumed run made {len(rest.steps)} steps"
                results.row(resumed, "wrong" if why else "ok", why)
        if not results.has(free):
            with results.kept(free):
                why = first_difference(bench.run("free"), bench.run("free again"))
                results.row(free, "ok", f"not needed to repeat: {why}" if why else "it repeats too")
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main())
