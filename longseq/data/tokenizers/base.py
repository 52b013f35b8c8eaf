"""What a tokenizer is: ids from 0 to vocab_size - 1, one of which ends a document.

A tokenizer is named by its specification, the string given to --tokenizer and kept in the manifest:
`nucleotide`, `codon`, `kmer:6`. Those of sequences take the codes of letters.py; those of text are
in text.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Ints, Tokens, token_dtype
from longseq.data.tokenizers.alphabet import COMPLEMENTS, Codes
from longseq.data.tokenizers.letters import LETTERS

PRINTED = frozenset(map(chr, range(32, 127))) - {">"}  # of text, what FASTA can hold


class Tokenizer(ABC):
    """What data and trainer need of a vocabulary.

    files: what a tokenizer of text is made from, by the name's ending beside the data.
    """

    specification: str
    vocab_size: int
    end_of_document: int
    files: Mapping[str, bytes] = {}

    @property
    def dtype(self) -> type[np.generic]:
        return token_dtype(self.vocab_size)

    @abstractmethod
    def decode(self, tokens: Tokens) -> str:
        """Tokens back to text; special tokens as their names."""

    @abstractmethod
    def names(self) -> list[str]:
        """The vocabulary, by id."""

    def definition(self) -> Any:
        """What decides which ids a text becomes: equal where two tokenizers give the same ids,
        whatever they are called and made from.
        """
        return self.end_of_document, self.names()

    @abstractmethod
    def no_letters(self) -> list[int]:
        """Ids that stand for no letters of a sequence: special ones, tags, and of text what FASTA
        cannot hold.
        """

    @abstractmethod
    def sizes(self, tokens: Tokens) -> Ints:
        """How many letters each token stands for, [n]; of text, bytes."""

    def letters(self, tokens: Tokens) -> int:
        """How many letters tokens stand for, of text bytes; as many as their spelling has, which is
        what compressors are given.
        """
        return int(self.sizes(tokens).sum())


class SequenceTokenizer(Tokenizer):
    """A tokenizer of nucleotide codes; each token is `bases` letters of the sequence."""

    bases: int

    @abstractmethod
    def encode(self, codes: Codes) -> Tokens:
        """Token ids of codes, a multiple of `bases`; the frame starts at the first code."""

    def encode_documents(self, units: list[bytes]) -> Tokens:
        """Token ids of the codes of several documents, each with its end token after it; codes
        after the last whole token of a document are left out.
        """
        size = self.bases
        filler = bytes(size)
        whole = [unit if len(unit) % size == 0 else unit[: -(len(unit) % size)] for unit in units]
        joined = filler.join(whole) + filler if whole else b""
        tokens = self.encode(np.frombuffer(joined, dtype=np.uint8))
        lengths = np.array([len(unit) for unit in units], dtype=np.int64)
        tokens[np.cumsum(lengths // size + 1) - 1] = self.end_of_document
        return tokens

    def sizes(self, tokens: Tokens) -> Ints:
        return np.full(len(tokens), self.bases, dtype=np.int64)

    def letters(self, tokens: Tokens) -> int:
        return len(tokens) * self.bases

    def spelled(self, tokens: Tokens) -> str:
        """The letters that tokens stand for, N where a special one does not say which."""
        names, special = self.names(), set(self.no_letters())
        any_letters = "N" * self.bases
        return "".join([any_letters if t in special else names[t] for t in tokens.tolist()])

    def other_strand(self) -> npt.NDArray[np.int64]:
        """For each token the one that the other strand has there, [vocab_size]; specials stay."""
        places = {name: place for place, name in enumerate(self.names())}
        swap = str.maketrans(LETTERS, COMPLEMENTS)
        mirrored = [places.get(name[::-1].translate(swap), place) for name, place in places.items()]
        return np.array(mirrored, dtype=np.int64)

    @abstractmethod
    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Which tokens hold a letter other than A, C, G and T."""
