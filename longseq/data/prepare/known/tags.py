"""Tags as tokens in front of each document: --tags NAMES."""

import json
from dataclasses import replace

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.prepare.encoded import Encoded
from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.annotation.features import Feature
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.tagged import Tagged, tag
from longseq.errors import UserError

FEATURE = "feature"  # the kind of feature that a document is


class Tags:
    """Gives tags their numbers as they come, and puts them in front of documents."""

    def __init__(self, recipe: Recipe, inner: Tokenizer) -> None:
        self.names = recipe.tag_names
        self.inner = inner
        self.numbers: dict[str, int] = {}
        small = inner.vocab_size <= 2**15
        self.dtype: type[np.generic] = np.uint16 if small else np.int32
        self._most = 2**16 - 1 if small else 2**31 - 1
        self._said: set[str] = set()  # the names that some document said
        self._weight = recipe.weights.index(recipe.tag_weight)
        self.mark()

    def mark(self) -> None:
        self._marked = len(self.numbers), set(self._said)

    def rollback(self) -> None:
        count, said = self._marked
        self._said = set(said)
        while len(self.numbers) > count:
            self.numbers.popitem()

    @property
    def tokenizer(self) -> Tagged:
        """With the tags there were."""
        return Tagged(self.inner, list(self.numbers))

    def check(self) -> None:
        """A name that no document says, such as a misspelt one, would train on nothing."""
        for name in self.names:
            if name not in self._said:
                raise UserError(
                    f"--tags {name}: no record says its {name}: mend the name, or give --metadata"
                )

    def put(self, result: Encoded, facts: list[str], is_open: bool) -> Encoded:
        """A result with the tags of each document that begins in it.

        facts: JSON of what is known of each of its records. is_open: it begins with the rest of a
        document.
        """
        tokens, lengths, weights = result.tokens, result.lengths, result.weights
        goes_on = is_open and len(tokens) > 0 and tokens[0] != self.inner.end_of_document
        owner = result.runs.owner[1 if goes_on else 0 :]
        ends = np.cumsum(lengths)
        starts = (ends if is_open else np.append(0, ends))[: len(owner)]
        places = np.repeat(starts, len(self.names))
        ids = self._ids(owner, facts, result.runs.unit, result.features)
        classes: Tokens = np.zeros(len(tokens), np.uint8) if weights is None else weights
        lengths = lengths.copy()
        lengths[1 if is_open else 0 :] += len(self.names)
        return replace(
            result,
            tokens=np.insert(tokens.astype(self.dtype), places, ids),
            lengths=lengths,
            weights=np.insert(classes, places, self._weight),
        )

    def _ids(
        self, owner: Ints, facts: list[str], unit: Ints | None, features: list[Feature]
    ) -> Ints:
        """The tags of documents, one after the other, int64 [documents * tags]."""
        known = [json.loads(text) if text else {} for text in facts]
        rows = []
        for place, record in enumerate(owner.tolist()):
            said = known[record] if known else {}
            if unit is not None:
                feature = features[int(unit[place])]
                said = {**said, **dict(feature.facts), FEATURE: feature.kind}
            self._said.update(key for key in self.names if said.get(key))
            rows += [self._number(tag(name, said.get(name, ""))) for name in self.names]
        return np.array(rows, dtype=np.int64)

    def _number(self, text: str) -> int:
        number = self.numbers.setdefault(text, len(self.numbers)) + self.inner.vocab_size
        if number > self._most:
            raise UserError(
                f"--tags {','.join(self.names)}: there are more than {len(self.numbers) - 1:,}:"
                " choose names with fewer values"
            )
        return number
