"""The pictures in docs/ that are made of measurements, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def _axes(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")


def lines(
    path: Path, tokens: Sequence[int], curves: Mapping[str, Sequence[float]], what: str
) -> None:
    """A curve for each name, over thousands of tokens; the last one is what the others aim at."""
    figure, axes = _axes(6, 3.6)
    *measured, aim = curves
    thousands = [count / 1024 for count in tokens]
    for name in measured:
        axes.plot(thousands, curves[name], marker="o", label=name)
    axes.plot(thousands, curves[aim], "--", color="gray", label=aim)
    axes.set(xlabel="thousand tokens", ylabel=what, ylim=(0, None))
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def dots(path: Path, rows: Sequence[tuple[str, int, int]], what: str) -> None:
    """For each name the tokens that ran and those that are predicted, on a logarithmic scale, on
    which a bar's length would mean nothing.
    """
    figure, axes = _axes(7.2, 3.8)
    names, ran, predicted = zip(*rows, strict=True)
    axes.hlines(names, ran, predicted, color="#c9d8e8", linewidth=2)
    axes.plot(predicted, names, "o", color="#3b6ea5", mfc="w", label="predicted for the limit")
    axes.plot(ran, names, "o", color="#3b6ea5", label="ran")
    axes.grid(axis="x", color="#e6e8ec")
    axes.set(xscale="log", xlabel=what, xlim=(8 * 1024, None))
    axes.set_xticks([2**13, 2**15, 2**17, 2**19, 2**21], ["8k", "32k", "128k", "512k", "2M"])
    axes.set_xticks([], minor=True)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
