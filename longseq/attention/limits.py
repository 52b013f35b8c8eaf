"""The attention kernels there are, and what each needs: the one list of them.

A kernel is a module in kernels/ with one function, `attend` (kernel.py says what it takes), and
a row here. The flags (--use-flash-attn-NAME), the choice of the best and what is refused before a
rank starts all follow from the row (longseq/config/kernels.py). Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

Capability = tuple[int, int]


@dataclass(frozen=True)
class LargeHeads:
    """Heads above `size` have a backward on some GPUs only: ranges of capability, [from, below)."""

    size: int
    gpus: tuple[tuple[Capability, Capability], ...]
    names: str
    with_dropout: bool = False  # only where weights are dropped


@dataclass(frozen=True)
class Limits:
    """What one kernel is and needs; nothing that is left at its default limits it.

    module: of kernels/. flag: the help of --use-flash-attn-NAME, empty for the kernel that runs
    where none is named. no_cpu: why it cannot run on CPUs. package: what pip calls it, with other
    names it is distributed under in `also`; versions: the first, and the first that is too new.
    """

    module: str
    title: str
    flag: str = ""
    no_cpu: str = ""
    package: str = ""
    also: tuple[str, ...] = ()
    versions: tuple[str, str] = ("", "")
    install: str = ""
    capability: Capability = (0, 0)
    below: Capability = (99, 0)  # the first GPU that is too new
    bf16: Capability = (0, 0)  # the first GPU with bf16
    half: bool = False  # only in bf16 and fp16
    heads: tuple[int, int, int] = (1, 1 << 30, 1)  # smallest, largest, multiple of
    large: LargeHeads | None = None
    dropout: bool = True
    documents: bool = True  # attention can stop at document boundaries
    dropout_on_cpu: bool = True
    speed: float = 1.0  # over flash-attn 2's, by an H200's and its makers' figures: to plan with
    repeats: bool = True  # whether its backward adds in one order, for --deterministic-mode
    in_blocks: bool = False  # blocks.py has its forward and backward, for the ring and for chunks
    otherwise: str = "use sdpa"  # what to do where it cannot


KERNELS = {
    "core": Limits("core", "attention written out"),
    "v1": Limits(
        "flash_v1",
        "flash-attn 1",
        flag="attention by flash-attn 1.x (GPU)",
        no_cpu="runs on GPUs only",
        package="flash-attn",
        versions=("1.0", "2"),
        install="--no-build-isolation 'flash-attn>=1.0.9,<2'",
        capability=(7, 5),
        below=(9, 1),
        bf16=(8, 0),
        half=True,
        heads=(8, 128, 8),
        speed=0.6,
        large=LargeHeads(64, (((8, 0), (8, 1)), ((9, 0), (9, 1))), "A100 and H100"),
    ),
    "v2": Limits(
        "flash_v2",
        "flash-attn 2",
        flag="attention by flash-attn 2.x (GPU)",
        no_cpu="runs on GPUs only",
        package="flash-attn",
        versions=("2.5.5", "3"),  # the first whose backward takes heads of 256 on every GPU
        install="--no-build-isolation 'flash-attn>=2.8,<3'",
        capability=(8, 0),
        half=True,
        heads=(1, 256, 1),
        large=LargeHeads(
            192, (((8, 0), (8, 1)), ((9, 0), (11, 0))), "A100, H100 and B200", with_dropout=True
        ),
    ),
    "v3": Limits(
        "flash_v3",
        "FlashAttention-3",
        flag="attention by flash-attn 3 (Hopper GPU)",
        no_cpu="runs on GPUs only",
        package="flash-attn-3",
        versions=("3.0", "4"),
        install="--no-build-isolation 'flash-attn-3 @"
        " git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper'",
        capability=(9, 0),
        below=(10, 0),
        half=True,
        heads=(8, 256, 8),
        dropout=False,
        speed=1.95,
    ),
    "v4": Limits(
        "flash_v4",
        "FlashAttention-4",
        flag="attention by flash-attn 4 (Hopper or Blackwell GPU)",
        no_cpu="runs on GPUs only",
        package="flash-attn-4",
        versions=("4.0", "5"),
        install="'flash-attn-4>=4.0.0b36'",
        capability=(9, 0),
        below=(12, 0),  # those have no backward in one order, and no B200's memory units
        half=True,
        heads=(8, 256, 8),
        large=LargeHeads(128, (((9, 0), (10, 0)),), "H100 and H200"),
        dropout=False,
        speed=1.95,
    ),
    "cudnn": Limits(
        "cudnn",
        "cuDNN's kernel",
        flag="attention by NVIDIA's cuDNN (Hopper GPU)",
        no_cpu="runs on GPUs only",
        capability=(9, 0),
        half=True,
        heads=(8, 128, 8),
        dropout=False,  # it has some, which nobody has held to ours on a GPU yet
        documents=False,
        speed=1.7,
        repeats=False,
        in_blocks=True,
    ),
    "sdpa": Limits(
        "sdpa",
        "torch's flash kernel",
        flag="attention by torch's flash kernels (CPU, GPU)",
        dropout_on_cpu=False,
        in_blocks=True,
    ),
    "triton": Limits(
        "flex",
        "FlexAttention, a Triton kernel,",
        flag="attention by a Triton kernel (GPU)",
        no_cpu="has no backward on CPUs",
        package="triton",
        also=("pytorch-triton",),
        versions=("3.0", "99"),
        install="triton",
        capability=(7, 0),
        heads=(16, 256, 1),
        dropout=False,
        speed=0.8,
    ),
}

# A ring and chunks call torch's flash kernel itself on a GPU, without what sdpa does around it.
FLASH_BLOCKS = Limits(
    "sdpa",
    "torch's flash kernel",
    capability=(8, 0),
    half=True,
    heads=(8, 256, 8),
    large=LargeHeads(192, (((8, 0), (8, 1)), ((9, 0), (11, 0))), "A100, H100 and B200"),
    otherwise="leave it out",
)

# The first of these that can do a run is the best. v1 and triton act only where they are named:
# torch's own kernels descend from flash-attn 2's and need no package.
BEST_FIRST = ("v3", "v4", "cudnn", "v2", "sdpa", "core")
BEST_IN_BLOCKS = (
    "sdpa",
)  # cudnn, whose speed in blocks no GPU has shown and which none has run in a ring, only by name
