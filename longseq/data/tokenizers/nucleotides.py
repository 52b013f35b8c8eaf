"""`nucleotide`: one token a base."""

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.alphabet import Codes
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.letters import LETTERS


class Nucleotides(SequenceTokenizer):
    """One token a base, the ten IUPAC letters included, so that nothing is lost: 15 letters and
    EOD.
    """

    def __init__(self) -> None:
        self.specification = "nucleotide"
        self.bases = 1
        self.end_of_document = len(LETTERS)
        self.vocab_size = len(LETTERS) + 1

    def encode(self, codes: Codes) -> Tokens:
        return codes

    def encode_documents(self, units: list[bytes]) -> Tokens:
        end = bytes([self.end_of_document])
        return np.frombuffer(end.join(units) + end if units else b"", dtype=np.uint8)

    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        return tokens > 3

    def decode(self, tokens: Tokens) -> str:
        table = np.frombuffer((LETTERS + "|").encode(), dtype=np.uint8)
        return table[tokens].tobytes().decode("ascii")

    def no_letters(self) -> list[int]:
        return [self.end_of_document]

    def names(self) -> list[str]:
        return [*LETTERS, "<eod>"]


def nucleotides(argument: str = "") -> Nucleotides:
    """The one there is; it takes no argument."""
    return Nucleotides()
