"""How many tokens' logits exist at once. Standard library only: the estimator counts with it."""

from __future__ import annotations

# fp32 logits of one tile: near the size of a last-level cache, or what fills a GPU
TILE_BYTES = {"cpu": 32 * 2**20, "gpu": 512 * 2**20}
# At most, for vocabularies so small that the cache would hold a whole sequence
TILE_TOKENS = {"cpu": 4096, "gpu": 32768}


def tile_tokens(kind: str, columns: int, batch: int) -> int:
    """Tokens of each of `batch` samples, for a rank with `columns` rows of the table."""
    return min(TILE_BYTES[kind] // (4 * columns * batch), TILE_TOKENS[kind] // batch)
