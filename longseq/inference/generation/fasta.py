"""What is written of a sequence that was made: FASTA that this program reads.

    never = no_letters(tokenizer)                   # but for those that end a sequence
    names = told_apart(["a", "a"])                  # "a", "a-2"
    text, replaced = body(tokenizer, tokens)        # lines below a header

What a prompt brings along and FASTA cannot hold is replaced, and counted. Tags of a prompt are a
line of their own, so that they are read whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.base import PRINTED, SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.tagged import Tagged, untagged
from longseq.errors import UserError

LINE = 70
REPLACEMENT = "?"


def no_letters(tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens that no sequence has; UserError where there are no others."""
    found = frozenset(tokenizer.no_letters())
    if len(found) >= tokenizer.vocab_size:
        raise UserError(
            f"generate writes FASTA, which can hold no token of {tokenizer.specification}"
        )
    return found


def told_apart(names: Sequence[str]) -> list[str]:
    """The same names, with -2, -3, … behind those that stood before."""
    taken, found = set(names), []
    last: Counter[str] = Counter()
    for name in names:
        last[name] += 1
        new = name
        while last[name] > 1 and (new := f"{name}-{last[name]}") in taken:
            last[name] += 1
        taken.add(new)
        found.append(new)
    return found


def body(tokenizer: Tokenizer, tokens: Tokens) -> tuple[str, int]:
    """Lines of the sequence, and how many characters of it are replaced."""
    tags = tokenizer.tags_in(tokens) if isinstance(tokenizer, Tagged) else 0
    lines = [tokenizer.decode(tokens[:tags])] if tags else []
    inner, rest = untagged(tokenizer), tokens[tags:]
    if isinstance(inner, SequenceTokenizer):
        text, replaced = inner.spelled(rest), 0
    else:
        text = inner.decode(rest)
        replaced = sum(letter not in PRINTED for letter in text)
        text = "".join([letter if letter in PRINTED else REPLACEMENT for letter in text])
    lines += [text[start : start + LINE] for start in range(0, len(text), LINE)]
    return "".join(line + "\n" for line in lines), replaced
