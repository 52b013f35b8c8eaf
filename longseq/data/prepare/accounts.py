"""Whether what was written is what was read, and whether it is worth training on."""

from collections import Counter

from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.text import Unknown
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.errors import UserError


def check_sums(recipe: Recipe, counts: Counter[str], tokenizer: Tokenizer, tokens: int) -> None:
    """Bases in = bases in tokens + what the counts say was left out; else it is our fault.

    tokens: without ends and tags.
    """
    if recipe.genes or not isinstance(tokenizer, SequenceTokenizer):
        return
    strands = 2 if recipe.reverse_complement else 1
    read = counts["feature_bases" if recipe.features else "bases"]
    expected = strands * (read - counts["dropped_bases"] - counts["short_bases"])
    expected -= counts["trailing_bases"] + counts["ambiguous_left_out"]
    found = tokens * tokenizer.bases
    if found != expected:
        raise RuntimeError(f"{found} bases were written where {expected} were read")


def check_unknown(counts: Counter[str], first: Unknown | None, allowed: float) -> None:
    """A tokenizer of text that knows none of these letters would train on nothing."""
    letters, unknown = counts["letters"], counts["unknown_letters"]
    if first is None or unknown <= allowed * letters:
        return
    raise UserError(
        f"{first.path}: record {first.record or '(no name)'}: the tokenizer has no token for"
        f" {first.text!r}, nor for {unknown / letters:.1%} of all letters: use another"
        f" --tokenizer, or --allow-unknown {min(1.0, unknown / letters + 0.001):.3f}"
    )
