"""A tokenizer with tokens for tags after its own: what a document is said to be, in front of it.

The tags are those of the data, numbered as they came; PREFIX.tags.json lists them.
"""

import difflib
import json
from typing import Any

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.kinds import TAGGED
from longseq.errors import UserError

FILE = "tags.json"
KIND = TAGGED
SHOWN = 40  # bytes of what is no tag
MOST = 8  # tags that are named in place of one that is not known


def tag(name: str, value: str) -> str:
    """How a tag is written; a document that does not say what it is has the empty one."""
    return f"<{name}={value}>"


class Tagged(Tokenizer):
    """Ids of `inner` as they are, then one for each tag."""

    def __init__(self, inner: Tokenizer, tags: list[str]) -> None:
        self.inner = inner
        self.tags = tags
        self.specification = KIND + inner.specification
        self.vocab_size = inner.vocab_size + len(tags)
        self.end_of_document = inner.end_of_document
        if isinstance(inner, SequenceTokenizer):  # a token of text has no number of bases
            self.bases = inner.bases
        listed = json.dumps(tags, indent=1, ensure_ascii=False) + "\n"
        self.files = {**inner.files, FILE: listed.encode()}

    def lead(self, text: bytes) -> tuple[Tokens, bytes]:
        """The tags that a text begins with, as tokens, and the rest of it; UserError for one that
        there is not. A text may begin with < itself: then what looks like none of ours is not one.
        """
        numbers = {name.encode(): at for at, name in enumerate(self.tags, self.inner.vocab_size)}
        found = []
        while text.startswith(b"<"):
            # a value may hold a >, so that one tag begins as another does
            name = max(filter(text.startswith, numbers), key=len, default=b"")
            if not name:
                self._refuse(text)
                break
            found.append(numbers[name])
            text = text[len(name) :]
        return np.array(found, dtype=self.dtype), text

    def _refuse(self, text: bytes) -> None:
        """UserError for a text that begins with a tag that is not known."""
        end = text.find(b">") + 1
        shown = text[: end or SHOWN].decode("utf-8", "replace")
        names = {name.partition("=")[0] for name in self.tags}
        letters = isinstance(self.inner, SequenceTokenizer)
        if not letters and (not end or shown.partition("=")[0] not in names):
            return
        near = difflib.get_close_matches(shown, self.tags, MOST, 0)
        more = len(self.tags) - len(near)
        known = ", ".join(near) + (f" and {more:,} others" if more else "")
        raise UserError(f"there is no tag {shown}; known: {known}")

    def decode(self, tokens: Tokens) -> str:
        edges = np.flatnonzero(np.diff(tokens >= self.inner.vocab_size)) + 1
        return "".join(map(self._decode_run, np.split(tokens, edges)))

    def _decode_run(self, tokens: Tokens) -> str:
        """Either tags only or none."""
        if len(tokens) and tokens[0] >= self.inner.vocab_size:
            places = (tokens.astype(np.int64) - self.inner.vocab_size).tolist()
            return "".join([self.tags[place] for place in places])
        return self.inner.decode(tokens)

    def tags_in(self, tokens: Tokens) -> int:
        """How many of the tokens are tags, which stand before all others."""
        return int((tokens >= self.inner.vocab_size).sum())

    def sizes(self, tokens: Tokens) -> Ints:
        """Tags stand for no letter."""
        tags = tokens >= self.inner.vocab_size
        found = np.zeros(len(tokens), np.int64)
        found[~tags] = self.inner.sizes(tokens[~tags])
        return found

    def letters(self, tokens: Tokens) -> int:
        return self.inner.letters(tokens[tokens < self.inner.vocab_size])

    def definition(self) -> Any:
        return self.inner.definition(), self.tags

    def no_letters(self) -> list[int]:
        return [*self.inner.no_letters(), *range(self.inner.vocab_size, self.vocab_size)]

    def names(self) -> list[str]:
        return [*self.inner.names(), *self.tags]


def untagged(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer of the letters."""
    return tokenizer.inner if isinstance(tokenizer, Tagged) else tokenizer


def without_tags(tokenizer: Tokenizer, tokens: Tokens) -> Tokens:
    """Tokens of any number of documents that stand for letters, or end a document."""
    return tokens[tokens < tokenizer.inner.vocab_size] if isinstance(tokenizer, Tagged) else tokens


def read_tags(path: str, remedy: str = "prepare the data again") -> list[str]:
    """The tags of prepared data, or of a network."""
    try:
        with open(path, encoding="utf-8") as file:
            tags = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {remedy}") from None
    if not isinstance(tags, list) or not all(isinstance(name, str) for name in tags):
        raise UserError(f"{path} is not a list of tags: {remedy}")
    return tags
