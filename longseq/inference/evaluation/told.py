"""What the terminal shows of an evaluation, and its figures as JSON can have them.

tell(figures)
without_nan(figures)          # null in place of what is no number
"""

from __future__ import annotations

import math
import sys
from typing import Any

from longseq.inference.evaluation.held_out import MOST
from longseq.inference.evaluation.seen import K
from longseq.reports.format import counted

TOLD = 0.005  # of the letters: less is of repeats, as genomes have them


def without_nan(value: Any) -> Any:
    """The same with None in place of each number that is nan or infinite."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tell(figures: dict[str, Any]) -> None:
    """What the terminal shows: a few lines a subject."""
    print(f"{figures['checkpoint']} on {figures['evaluated']}:"
          f" {figures['letters']:,} letters in"
          f" {counted(figures['records'], 'record')}")  # fmt: skip
    print("\nbits a letter")
    for name, value in sorted(figures["bits_per_letter"].items(), key=_rank):
        print(f"  {name:<36} {value:.4f}")
    if not math.isfinite(figures["bits_per_letter"]["network"]):
        print(
            "\nlosses of the network are no numbers (nan or inf), as after a training that diverged"
        )
    if (share := figures.get("seen_in_training_part") or 0) >= TOLD:
        print(
            f"\n{share:.1%} of the words of {K} letters here stand in the training part as well, on"
            " either strand: these are not unseen"
        )
    if "seen_unknown" in figures:
        print(
            f"\nwhether words of {K} letters here stand in the training part was not found out:"
            f" {figures['seen_unknown']}"
        )
    scale = 1 / math.log(2) / figures["letters_a_token"]
    places = figures["by_position"]
    known = any(one["error"] is not None for one in places)
    errors = ", ± one standard error of the mean over so many tokens" if known else ""
    print(f"\nby tokens of context          bits a letter{errors}")
    for one in places:
        span = f"{one['from']:,} to {one['to']:,}" if one["to"] > one["from"] else f"{one['from']}"
        error = (
            "" if one["error"] is None else f" ± {one['error'] * scale:.4f} {one['tokens']:>11,}"
        )
        print(f"  {span:<28} {one['loss'] * scale:.4f}{error}")
    if "by_codon_position" in figures:
        print("\nby codon position             bits a letter")
        for name, value in figures["by_codon_position"].items():
            print(f"  {name:<28} {value / math.log(2):.4f}")
    of = figures.get("genes")
    if of and not of["compared"]:
        print("\nno whole gene is there")
    elif of:
        gain = of["nats_a_codon_above_shuffled"]
        by = f", on average {abs(gain):.4f} nats a codon {'below' if gain < 0 else 'above'}"
        print(
            "\ngenes that score above themselves with synonymous codons shuffled:"
            f" {of['scored_above_shuffled']:,} of {of['compared']:,}"
            + (by if math.isfinite(gain) else "")
        )
    if figures["baselines_learned_from_tokens"] >= MOST:
        print(f"\nbaselines learned from {MOST:,} tokens of the training part only")
    sys.stdout.flush()


def _rank(named: tuple[str, float]) -> tuple[bool, float]:
    """The best first, and behind them what is no number, which has no place among them."""
    return not math.isfinite(named[1]), named[1]
