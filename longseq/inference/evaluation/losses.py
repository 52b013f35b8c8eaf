"""The network's losses on records: all of them, and their mean by place in the window.

found = network_losses(ready, records, cutting, advance)
found.each[n]                    # of record n's tokens, nats
found.by_position.bins()         # does it use its length?
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from longseq.inference.sequences import Sequence
from longseq.inference.windows import Cutting, Losses

if TYPE_CHECKING:
    from longseq.inference.network import Ready

Floats = npt.NDArray[np.float64]


@dataclass
class ByPosition:
    """Sums by the number of tokens that stood before: of losses, their squares, their count."""

    sums: Floats
    squares: Floats
    counts: Floats

    def add(self, losses: Losses, tags: int = 0) -> None:
        """Losses [n] of a window, the first of tags, which are context and count nothing."""
        here = slice(tags, len(losses))
        self.sums[here] += losses[here]
        self.squares[here] += np.square(losses[here], dtype=np.float64)
        self.counts[here] += 1

    def bins(self) -> list[dict[str, Any]]:
        """Means over 1, 2, 3-4, 5-8, … tokens of context, each over so many `tokens`, in nats;
        error: one standard error of the mean, as of so many independent losses; one alone has none,
        nor have losses that are no numbers.
        """
        found, low = [], 1
        while low <= len(self.sums):
            high = min(len(self.sums), 1 if low == 1 else 2 * (low - 1))
            here = slice(low - 1, high)
            count = float(self.counts[here].sum())
            if count:
                mean = float(self.sums[here].sum()) / count
                spread = float(self.squares[here].sum()) / count - mean * mean
                known = count > 1 and math.isfinite(spread)
                error = (max(0.0, spread) / count) ** 0.5 if known else None
                place = {"from": low, "to": high, "tokens": int(count)}
                found.append(place | {"loss": mean, "error": error})
            low = high + 1
        return found


@dataclass
class Found:
    """each: losses [n] of each record, in their order."""

    by_position: ByPosition
    each: list[Losses] = field(default_factory=list)


def network_losses(
    ready: Ready, records: list[Sequence], cutting: Cutting, advance: Callable[[int, str], None]
) -> Found:
    """One pass over all windows; what is context in one counts for its position there as well."""
    from longseq.inference.forward import in_parts, in_turn

    begin = ready.trained.tokenizer.end_of_document
    size = min(cutting.size or ready.length, max(len(record.tokens) for record in records))
    found = Found(ByPosition(*(np.zeros(size) for _ in range(3))))
    parts: list[Losses] = []
    done = seen = 0  # tokens of all records, and of this one
    windows = in_parts(records, cutting, begin, partial(in_turn, ready))
    for record, window, losses, last in windows:
        found.by_position.add(losses, max(0, record.tags - (seen - window.context)))
        parts.append(losses[window.context :])
        seen += len(parts[-1])
        done += len(parts[-1])
        advance(done, f"{done:,} tokens")
        if last:
            found.each.append(np.concatenate(parts))
            parts, seen = [], 0
    return found
