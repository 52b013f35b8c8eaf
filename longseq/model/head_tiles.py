"""How many tokens' logits exist at once. Standard library only: the estimator counts with it."""

from __future__ import annotations

# One tile's logits in fp32, with the hidden states that ranks exchange for them: near the size of a
# last-level cache, or what fills a GPU
TILE_BYTES = {"cpu": 32 * 2**20, "gpu": 512 * 2**20}
# At most, for vocabularies so small that the cache would hold a whole sequence
TILE_TOKENS = {"cpu": 4096, "gpu": 32768}
# Numbers of a tile's share of the table's gradient that exist at once beside the fp32 sum
BLOCK = {"cpu": 2**20, "gpu": 2**26}
# Where tokens are split over the ranks that share the table: the hidden states of a tile as they
# are gathered, their gradient, and what the others send of that
EXCHANGED = 3


def tile_tokens(kind: str, columns: int, batch: int, exchanged: int = 0) -> int:
    """Tokens of each of `batch` samples, for a rank with `columns` rows of the table.

    exchanged: bytes of a token's hidden states where they are gathered, else 0. A rank of many has
    few columns: there they, and not the logits, are what a tile takes.
    """
    each = 4 * columns + EXCHANGED * exchanged
    return min(TILE_BYTES[kind] // (each * batch), TILE_TOKENS[kind] // batch)
