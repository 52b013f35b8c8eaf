"""What the layers need to know of one forward pass besides the hidden states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longseq.attention.kernel import Documents


@dataclass(frozen=True)
class Context:
    """One micro batch: rotary tables, document boundaries and the number of this forward pass.

    `rotary` is (cos, sin), each [s, b or 1, 1, rotary_size / 2], or None with learned positions.
    `forward_pass` is another number in every forward pass of a training; with it dropout is a
    function of position in the network and in time, not of a generator's state, so that
    recomputation and resumption repeat it without keeping anything. `first`: of a tile of the
    hidden states, the place of its first row.
    """

    rotary: tuple[Tensor, Tensor] | None = None
    documents: Documents = None
    forward_pass: int = 0
    first: int = 0
