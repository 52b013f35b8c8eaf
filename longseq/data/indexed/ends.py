"""Which documents end with the end token, looked at as the tokens are read.

Files of other programs may lack it, and samples add it then: to all documents or to none.
"""

from collections.abc import Iterator

import numpy as np

from longseq.data.indexed.format import Flags, IndexedTokens, Ints, Tokens
from longseq.errors import UserError

BLOCK = 1 << 24  # tokens
SAMPLE = 64  # documents: of a file system that answers slowly, what all ranks can wait for
AGAIN = "prepare the data again"
WRITE = (
    "write them again, each with it at its end or none (Megatron's preprocess_data writes it with"
    " --append-eod)"
)


def blocks(tokens: IndexedTokens, limit: int | None = None) -> Iterator[tuple[int, Tokens]]:
    """The first `limit` tokens, or all, in blocks, each with the place of its first."""
    total = tokens.num_tokens if limit is None else min(limit, tokens.num_tokens)
    for start in range(0, total, BLOCK):
        yield start, tokens.read(start, min(BLOCK, total - start))


class Ends:
    """The last tokens of documents; those without any token have none.

    seen, closed: documents whose last token was looked at, and those of them where it is the end.
    first_closed, first_open: the number of the first document where it is, or is not, or -1.
    """

    def __init__(self, tokens: IndexedTokens, end: int) -> None:
        self.seen = self.closed = 0
        self.first_closed = self.first_open = -1
        self._path, self.end = tokens.bin_path, end
        self._offsets = tokens.document_offsets
        self._lasts = self._offsets[1:][np.diff(self._offsets) > 0] - 1

    def look(self, start: int, piece: Tokens) -> None:
        """Tokens from a place on; they come in the order of the file."""
        low, high = np.searchsorted(self._lasts, [start, start + len(piece)])
        lasts = self._lasts[low:high]
        self._count(lasts, piece[lasts - start] == self.end)

    def look_at_some(self, tokens: IndexedTokens) -> None:
        """A few documents, from the first to the last."""
        places = np.unique(np.linspace(0, len(self._lasts) - 1, SAMPLE).astype(np.int64))
        lasts = self._lasts[places]
        found = [int(tokens.read(last, 1)[0]) == self.end for last in lasts.tolist()]
        self._count(lasts, np.array(found))

    def _count(self, lasts: Ints, closed: Flags) -> None:
        self.seen += len(lasts)
        self.closed += int(np.count_nonzero(closed))
        if self.first_closed < 0 and closed.any():
            self.first_closed = self._number(lasts[int(np.argmax(closed))])
        if self.first_open < 0 and not closed.all():
            self.first_open = self._number(lasts[int(np.argmin(closed))])

    def _number(self, last: np.int64) -> int:
        """Of the document with this last token."""
        return int(np.searchsorted(self._offsets, last, side="right")) - 1

    def differ(self) -> str:
        """What is said where some documents end with it and some do not, or ""."""
        if self.closed in (0, self.seen):
            return ""
        return (
            f"document {self.first_closed} ends with the end token ({self.end}), document"
            f" {self.first_open} does not (with it: {self.closed:,} of the {self.seen:,} that were"
            " looked at)"
        )

    def check(self, ours: bool) -> None:
        """UserError where they differ. ours: whether `longseq prepare` wrote them."""
        if said := self.differ():
            raise UserError(f"{self._path}: {said}: {AGAIN if ours else WRITE}")
