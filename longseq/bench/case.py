"""One run of a bench: a network, a kernel, a layout on so many ranks, and a length.

layout = read_layout("tp2xring", ranks=4)          # a family's sizes on so many ranks
case = Case("GPT_SMALL", "sdpa", layout, 4096)
case.variables()                                    # for ALCF/train-gpt3.sh
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from longseq.errors import UserError

AXES = {"tp": "MPSIZE", "ulysses": "SPSIZE", "ring": "RINGSIZE"}
SP_TYPES = {"tp": "megatron", "ulysses": "ds", "ring": "ring"}


@dataclass(frozen=True)
class Layout:
    """Ranks on each axis; what is left of `ranks` is data parallel. family: as it was asked for."""

    family: str
    ranks: int
    tp: int = 1
    ulysses: int = 1
    ring: int = 1

    @property
    def sizes(self) -> dict[str, int]:
        return {"tp": self.tp, "ulysses": self.ulysses, "ring": self.ring}

    @property
    def name(self) -> str:
        """`tp2 x dp2`; `1 rank` where there is nothing to share out."""
        sizes = self.sizes | {"dp": self.ranks // prod(self.sizes.values())}
        return " x ".join(f"{n}{size}" for n, size in sizes.items() if size > 1) or "1 rank"

    @property
    def parts(self) -> int:
        """What a sequence must divide by."""
        return self.tp * self.ulysses * self.ring * (2 if self.ring > 1 else 1)


def read_layout(family: str, ranks: int) -> Layout | None:
    """`tp`, `dp`, `tp2xring`: an axis without a size takes the ranks that are left.

    None where that many ranks cannot be shared out so; raises UserError for what is no layout.
    """
    sizes: dict[str, int] = {}
    open_axis = ""
    for part in family.split("x"):
        match = re.fullmatch(r"(tp|ulysses|ring|dp)([1-9]\d{0,8})?", part)
        if not match or match[1] in sizes or (open_axis and not match[2]):
            raise UserError(
                f"--layouts {family}: give axes as tp, ulysses, ring or dp, or a product with sizes"
                " as tp2xring, where one axis takes what is left"
            )
        sizes[match[1]] = int(match[2] or 1)
        open_axis = open_axis or ("" if match[2] else match[1])
    given = prod(sizes.values())
    if ranks % given:
        return None
    if open_axis:
        sizes[open_axis] = ranks // given
    sizes.pop("dp", None)
    return Layout(family, ranks, **sizes)


@dataclass(frozen=True)
class Case:
    """`network` is a MODEL_SIZE_KEY, `kernel` a value of USE_FLASH_ATTN, `length` in tokens."""

    network: str
    kernel: str
    layout: Layout
    length: int

    @property
    def name(self) -> str:
        """For the screen: a kernel may be a bare number."""
        kernel = f"USE_FLASH_ATTN={self.kernel}"
        return f"{self.network} {kernel} {self.layout.name} {self.length:,} tokens"

    @property
    def key(self) -> str:
        """The same for the same run, however its layout was asked for; also a file's name."""
        layout = self.layout.name.replace(" ", "")
        return f"{self.network}_{self.kernel}_{layout}_r{self.layout.ranks}_s{self.length}"

    def variables(self) -> dict[str, str]:
        """What ALCF/train-gpt3.sh is given for it."""
        widest = max(SP_TYPES, key=lambda axis: self.layout.sizes[axis])
        return {
            "MODEL_SIZE_KEY": self.network,
            "USE_FLASH_ATTN": self.kernel,
            "NGPUS": str(self.layout.ranks),
            "SP_TYPE": SP_TYPES[widest],
            "SEQ_LEN": str(self.length),
        } | {variable: str(self.layout.sizes[axis]) for axis, variable in AXES.items()}


def in_order(cases: Iterable[Case]) -> list[Case]:
    """Every fourth length of all curves, then those in the middle, then the rest: a table that is
    ended early has gaps in place of missing columns. Each case once.
    """
    once = list({case.key: case for case in cases}.values())
    lengths = sorted({case.length for case in once})
    rank = {length: _round(place) for place, length in enumerate(lengths)}
    return sorted(once, key=lambda case: (rank[case.length], case.length))


def _round(place: int) -> int:
    return 0 if place % 4 == 0 else 1 if place % 2 == 0 else 2


def all_cases(
    networks: Sequence[str],
    kernels: Sequence[str],
    layouts: Sequence[Layout],
    lengths: Sequence[int],
) -> list[Case]:
    """The product, but for lengths that a layout cannot share out."""
    return [
        Case(network, kernel, layout, length)
        for network in networks
        for kernel in kernels
        for layout in layouts
        for length in lengths
        if length % layout.parts == 0
    ]
