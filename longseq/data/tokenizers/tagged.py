"""A tokenizer with tokens for tags after its own: what a document is said to be, in front of it.

The tags are those of the data, numbered as they came; PREFIX.tags.json lists them.
"""

import json

import numpy as np

from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.kinds import TAGGED
from longseq.errors import UserError

FILE = "tags.json"
KIND = TAGGED


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
        self.bases = getattr(inner, "bases", 1)
        listed = json.dumps(tags, indent=1, ensure_ascii=False) + "\n"
        self.files = {**inner.files, FILE: listed.encode()}

    def lead(self, text: bytes) -> tuple[Tokens, bytes]:
        """The tags that a text begins with, as tokens, and the rest of it."""
        numbers = {name.encode(): at for at, name in enumerate(self.tags, self.inner.vocab_size)}
        found = []
        while text.startswith(b"<"):
            name = next((name for name in numbers if text.startswith(name)), b"")
            if not name:
                break
            found.append(numbers[name])
            text = text[len(name) :]
        return np.array(found, dtype=self.dtype), text

    def decode(self, tokens: Tokens) -> str:
        edges = np.flatnonzero(np.diff(tokens >= self.inner.vocab_size)) + 1
        return "".join(map(self._decode_run, np.split(tokens, edges)))

    def _decode_run(self, tokens: Tokens) -> str:
        """Either tags only or none."""
        if len(tokens) and tokens[0] >= self.inner.vocab_size:
            places = (tokens.astype(np.int64) - self.inner.vocab_size).tolist()
            return "".join([self.tags[place] for place in places])
        return self.inner.decode(tokens)

    def names(self) -> list[str]:
        return [*self.inner.names(), *self.tags]


def read_tags(path: str) -> list[str]:
    """The tags of prepared data, or of a network."""
    try:
        with open(path, encoding="utf-8") as file:
            tags = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): prepare the data again") from None
    if not isinstance(tags, list) or not all(isinstance(name, str) for name in tags):
        raise UserError(f"{path} is not a list of tags: prepare the data again")
    return tags
