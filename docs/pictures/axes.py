"""Draws who holds what on each axis: docs/pictures/{tensor,ulysses,ring}.svg.

    python docs/pictures/axes.py

Every square is a run of tokens of one head, coloured by the rank that holds it, between the layers'
attention and inside of it. The runs of tokens come from the code that the trainer uses.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from longseq.attention.zigzag import held_spans  # noqa: E402
from longseq.parallel.ulysses import query_runs  # noqa: E402
from longseq.reports.plots import STYLE  # noqa: E402

RANKS, TOKENS, HEADS = 4, 8, 8
COLOURS = ["#2360c5", "#b8560b", "#1c7a55", "#8e4a86"]  # white can be read on each
Holder = list[list[int]]  # [head][run of tokens] → rank


def by_tokens(axis: str) -> Holder:
    """Who holds each run of tokens, all heads of it, with all ranks on `axis`."""
    whole = {"ulysses": (0, 1), "ring": (0, 1)}
    row = [0] * TOKENS
    for rank in range(RANKS):
        at = whole | {axis: (rank, RANKS)}
        for low, high in held_spans(TOKENS, at["ulysses"], at["ring"]):
            row[low:high] = [rank] * (high - low)
    return [row] * HEADS


def by_heads() -> Holder:
    """Who holds each head, all tokens of it."""
    runs = query_runs(HEADS, RANKS)
    return [[rank] * TOKENS for rank, (low, high) in enumerate(runs) for _ in range(low, high)]


def draw(panel: Axes, holder: Holder, title: str) -> None:
    for head, row in enumerate(holder):
        for token, rank in enumerate(row):
            square = Rectangle((token, head), 0.94, 0.94, color=COLOURS[rank])
            panel.add_patch(square)
            panel.text(token + 0.47, head + 0.5, str(rank), ha="center", va="center", color="w")
    panel.set(xlim=(0, TOKENS), ylim=(HEADS, 0), xticks=[], yticks=[], title=title)
    panel.set_xlabel("tokens of one sample →")
    panel.set_ylabel("← heads")
    for side in panel.spines.values():
        side.set_visible(False)


def draw_rounds(panel: Axes, row: list[int], title: str) -> None:
    """Queries (down) and the keys that they see (across), coloured by the rank of the queries; the
    number is the round in which those keys come by, 0 for a rank's own.
    """
    for query, rank in enumerate(row):
        for key in range(query + 1):
            square = Rectangle((key, query), 0.94, 0.94, color=COLOURS[rank])
            panel.add_patch(square)
            came = str((rank - row[key]) % RANKS)
            panel.text(key + 0.47, query + 0.5, came, ha="center", va="center", color="w")
    panel.set(xlim=(0, TOKENS), ylim=(TOKENS, 0), xticks=[], yticks=[], title=title)
    panel.set_xlabel("keys →")
    panel.set_ylabel("← queries")
    for side in panel.spines.values():
        side.set_visible(False)


def picture(name: str, between: Holder, inside: Holder | None, *titles: str) -> None:
    """inside: None for a ring, where a rank holds the same, and what passes by is drawn."""
    with rc_context(STYLE | {"svg.hashsalt": "longseq", "axes.titlesize": 9}):
        figure = Figure(figsize=(5.8, 3.1), layout="constrained")
        for panel, holder, title in zip(
            figure.subplots(1, 2), (between, inside), titles, strict=True
        ):
            if holder is None:
                draw_rounds(panel, between[0], title)
            else:
                draw(panel, holder, title)
        path = Path(__file__).with_name(f"{name}.svg")
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def main() -> None:
    picture(
        "tensor",
        by_tokens("ulysses"),
        by_heads(),
        "Norms, residual: each rank its tokens",
        "Attention, MLP: each rank its heads\nand its part of every weight",
    )
    picture(
        "ulysses",
        by_tokens("ulysses"),
        by_heads(),
        "All but attention: each rank its tokens\n(and all weights)",
        "Attention: all tokens of its heads,\nafter an all-to-all",
    )
    picture(
        "ring",
        by_tokens("ring"),
        None,
        "All but attention: an early and a late\nrun of tokens",
        "Attention: the round in which keys\ncome by; as many squares a rank",
    )


if __name__ == "__main__":
    main()
