"""What a tokenizer is: ids from 0 to vocab_size - 1, one of which ends a document.

A tokenizer is named by its specification, the string given to --tokenizer and kept in the manifest:
`nucleotide`, `codon`, `kmer:6`. Those of sequences take the codes of alphabet.py; those of text are
in text.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens, token_dtype
from longseq.data.tokenizers.alphabet import Codes


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


class SequenceTokenizer(Tokenizer):
    """A tokenizer of nucleotide codes; each token is `bases` letters of the sequence."""

    bases: int

    @abstractmethod
    def encode(self, codes: Codes) -> Tokens:
        """Token ids of codes, a multiple of `bases`; the frame starts at the first code."""

    @abstractmethod
    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Which tokens hold a letter other than A, C, G and T."""
