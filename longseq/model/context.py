"""What the layers need to know of one forward pass besides the hidden states."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from longseq.attention import Documents
from longseq.memory.tiles import Tile
from longseq.model.dropout import mix


@dataclass(frozen=True)
class Context:
    """One micro batch: rotary tables, document boundaries and the number of this forward pass.

    `rotary` is (cos, sin), each [s, b or 1, 1, rotary_size / 2], or None with learned positions.
    `forward_pass` is another number in every forward pass of a training; with it dropout is a
    function of position in the network and in time, not of a generator's state, so that
    recomputation and resumption repeat it without keeping anything.
    """

    rotary: tuple[Tensor, Tensor] | None = None
    documents: Documents = None
    forward_pass: int = 0

    def part(self, tile: Tile) -> Context:
        """For the tokens of one tile; tiles have a dropout of their own."""
        first = tile.rows.start
        rotary = self.rotary and (tile.of(self.rotary[0]), tile.of(self.rotary[1]))
        return replace(
            self,
            rotary=rotary,
            forward_pass=mix(self.forward_pass, first) if first else self.forward_pass,
        )
