"""Step 3: what is traded for memory: the same training as without it, and what it saves.

    python -m tests.gpu.savings [--part device|host] [--device cuda|cpu] [--out FILE]

Each way is held against none of them twice: a small network in fp32, whose losses and norms must
agree to 1e-5 and 1e-4, and on a GPU GPT125M with 32,768 tokens in bf16, where they must agree to
what rounding explains and the peak of memory shows what is saved. Chunked attention is made of
flash kernels, which a GPU has in bf16 only, so that its small network is in bf16 there. Nothing is
compiled, so that a step has the same operations in all of them. What costs time is in speed.py:
here other steps use the GPU meanwhile. --part host: the optimizer or weights leave the GPU.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from longseq.attention.limits import KERNELS
from longseq.engine.nvme import build_operator
from longseq.errors import UserError
from tests.gpu.results import Results, started, step_parser
from tests.gpu.training import Found, largest_difference, train

STEPS, VOCABULARY = 3, 1000
COMMON = """
    --use-rotary-position-embeddings --lr 3e-4 --lr-decay-style constant
    --compile off
""".split()
SMALL = "--num-layers 3 --hidden-size 256 --num-attention-heads 8 --seq-length 1024".split()
LARGE = """
    --num-layers 12 --hidden-size 768 --num-attention-heads 16 --seq-length 32768 --bf16
""".split()
CLOSE = {"fp32": (1e-5, 1e-4), "bf16": (1e-3, 2e-2)}  # of losses, of norms
NONE = "none of them"


@dataclass(frozen=True)
class Way:
    """Flags that save memory; {tile}, {chunk} and {nvme} are filled in."""

    flags: str
    in_bf16: bool = False  # on a GPU
    kernel: str = "sdpa"

    @property
    def on_host(self) -> bool:
        return "-optimizer" in self.flags

    def words(self, size: int, nvme: str) -> list[str]:
        """Its flags for samples of `size` tokens: tiles and chunks that cut them in eight."""
        flags = f"{self.flags} --use-flash-attn-{self.kernel}"
        return [word.format(part=size // 8, nvme=nvme) for word in flags.split()]


FULL = "--recompute-granularity full --tile-size {part}"
CHUNKS = (
    "--recompute-granularity none --ds-sequence-parallel-fpdt"
    " --ds-sequence-parallel-fpdt-chunk-size {part}"
)
PLAIN = "--recompute-granularity none"
WAYS = {
    NONE: Way(PLAIN),
    "norms and activation functions recomputed": Way("--recompute-granularity pointwise"),
    "layers recomputed in tiles": Way(FULL),
    "all but attention recomputed": Way(
        "--recompute-granularity outside-attention --tile-size {part}"
    ),
    "layers recomputed, inputs in host memory": Way(f"{FULL} --checkpoint-in-cpu"),
    "attention in chunks": Way(CHUNKS, in_bf16=True),
    "attention in chunks by cuDNN": Way(CHUNKS, in_bf16=True, kernel="cudnn"),
    "attention in chunks in host memory": Way(
        f"{CHUNKS} --ds-sequence-parallel-fpdt-offloading", in_bf16=True
    ),
    "optimizer in host memory, ZeRO 1": Way(f"{PLAIN} --cpu-optimizer --zero-stage 1"),
    "optimizer in host memory, ZeRO 2": Way(f"{PLAIN} --cpu-optimizer --zero-stage 2"),
    "optimizer in host memory, ZeRO 3": Way(f"{PLAIN} --cpu-optimizer --zero-stage 3"),
    "optimizer, weights in host memory, ZeRO 3": Way(
        f"{PLAIN} --cpu-optimizer --remote-device cpu --zero-stage 3"
    ),
    "optimizer in files, ZeRO 3": Way(
        f"{PLAIN} --nvme-optimizer --zero-stage 3 --nvme-path {{nvme}}"
    ),
}


class Bench:
    """Trainings of one size on one device; those with none of the ways are run once."""

    def __init__(self, results: Results, device: str, nvme: str) -> None:
        self.results, self.device, self.nvme = results, device, nvme
        self.plain: dict[str, Found] = {}

    def found(self, way: Way, flags: Sequence[str]) -> Found:
        size = int(flags[flags.index("--seq-length") + 1])
        words = [*COMMON, *flags, *way.words(size, self.nvme)]
        return train(words, self.device, STEPS, VOCABULARY)

    def without(self, flags: Sequence[str]) -> Found:
        key = " ".join(flags)
        if key not in self.plain:
            self.plain[key] = self.found(WAYS[NONE], flags)
        return self.plain[key]

    def row(self, name: str, flags: Sequence[str], title: str) -> None:
        """One way at one size, against none of them."""
        what, way = f"{name}; {title}", WAYS[name]
        if self.results.has(what):
            return
        with self.results.kept(what):
            plain = self.without(flags)
            try:
                found = plain if name == NONE else self.found(way, flags)
            except UserError as error:  # what this machine cannot do is said by the product itself
                self.results.row(what, "not run", str(error))
                return
            loss = largest_difference(found.losses, plain.losses)
            norm = largest_difference(found.norms, plain.norms)
            most_loss, most_norm = CLOSE["bf16" if "--bf16" in flags else "fp32"]
            why = "" if loss <= most_loss and norm <= most_norm else f"{found} against {plain}"
            values = {"loss": loss, "norm": norm}
            if self.device == "cuda":
                values |= {"peak GiB": found.peak_gib, "saved GiB": plain.peak_gib - found.peak_gib}
            self.results.row(what, "wrong" if why else "ok", why, **values)


def main(argv: Sequence[str] | None = None) -> int:
    parser = step_parser(__doc__)
    parser.add_argument("--part", choices=("device", "host"))
    parser.add_argument("--only", default="", help="ways whose names have this, beside none")
    options = started(parser, argv)
    torch.set_float32_matmul_precision("highest")
    results = Results(options.out, "peak GiB", "saved GiB", "loss", "norm")
    folder = options.out.parent if options.out else None  # on a disk, where /tmp may be memory
    with tempfile.TemporaryDirectory(dir=folder) as nvme:
        bench = Bench(results, options.device, nvme)
        for name, way in WAYS.items():
            if options.part and name != NONE and way.on_host != (options.part == "host"):
                continue
            if name != NONE and options.only not in name:
                continue
            if "--nvme-optimizer" in way.flags:
                try:
                    build_operator()
                except UserError as error:
                    results.row(name, "not run", str(error))
                    continue
            if options.device == "cpu" and KERNELS[way.kernel].no_cpu:
                results.row(name, "not run", f"{way.kernel} {KERNELS[way.kernel].no_cpu}")
                continue
            in_bf16 = way.in_bf16 and options.device == "cuda"
            small = [*SMALL, "--bf16"] if in_bf16 else SMALL
            bench.row(name, small, f"small, {'bf16' if in_bf16 else 'fp32'}")
            if options.device == "cuda" and not options.tiny:
                bench.row(name, LARGE, "GPT125M, 32k tokens")
    return results.exit_code


if __name__ == "__main__":
    sys.exit(main())
