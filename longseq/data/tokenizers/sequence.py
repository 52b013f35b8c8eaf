"""Tokenizers of sequences: nucleotides, codons as GenSLM numbers them, and k-mers.

Each takes the codes of alphabet.py and gives token ids, vectorised. A tokenizer is named by its
specification, the string given to --tokenizer and kept in the manifest: `nucleotide`, `codon`,
`codon:69`, `kmer:6`. Tokenizers of text are in text.py.
"""

from abc import ABC, abstractmethod
from itertools import product

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens, token_dtype
from longseq.data.tokenizers.alphabet import LETTERS, Codes
from longseq.errors import UserError

LONGEST_KMER = 12  # 4^12 = 16.8 million tokens


class Tokenizer(ABC):
    """What data and trainer need of a vocabulary; ids run from 0 to vocab_size - 1."""

    specification: str
    vocab_size: int
    end_of_document: int

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

    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        return tokens > 3

    def decode(self, tokens: Tokens) -> str:
        table = np.frombuffer((LETTERS + "|").encode(), dtype=np.uint8)
        return table[tokens].tobytes().decode("ascii")

    def names(self) -> list[str]:
        return [*LETTERS, "<eod>"]


class Words(SequenceTokenizer):
    """Words of k bases by table; one with another letter than A, C, G, T is unknown."""

    def __init__(
        self, specification: str, specials: list[str], words: list[str], unknown: str, end: str
    ) -> None:
        self.specification = specification
        self.bases = len(words[0])
        self.vocab_size = len(specials) + len(words)
        self.unknown = specials.index(unknown)
        self.end_of_document = specials.index(end)
        self._names = [*specials, *words]
        places = {word: len(specials) + place for place, word in enumerate(words)}
        alphabetical = ("".join(letters) for letters in product("ACGT", repeat=self.bases))
        self._ids = np.array([places[word] for word in alphabetical], dtype=self.dtype)
        self._bytes = b""  # the same table for bytes.translate, which is twice as fast
        if self.bases <= 3:
            self._bytes = np.resize(self._ids, 256).tobytes()

    def encode(self, codes: Codes) -> Tokens:
        number = codes[0 :: self.bases].astype(np.uint8 if self.bases <= 4 else np.uint32)
        together = codes[0 :: self.bases].copy()  # its bits tell whether a code is above 3
        for place in range(1, self.bases):
            letter = codes[place :: self.bases]
            np.left_shift(number, 2, out=number)
            np.bitwise_or(number, letter, out=number)
            np.bitwise_or(together, letter, out=together)
        tokens = self._look_up(number)
        if together.size and int(together.max()) > 3:
            tokens[together > 3] = self.unknown
        return tokens

    def _look_up(self, number: npt.NDArray[np.unsignedinteger]) -> Tokens:
        """Ids by number; garbage where a letter is foreign, for its bits overlap the others'."""
        if self._bytes:
            return np.frombuffer(bytearray(number.tobytes().translate(self._bytes)), np.uint8)
        tokens: Tokens = self._ids[number & (len(self._ids) - 1)]
        return tokens

    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        return np.asarray(tokens == self.unknown)

    def decode(self, tokens: Tokens) -> str:
        return "".join([self._names[token] for token in tokens.tolist()])

    def names(self) -> list[str]:
        return self._names


# GenSLM's published vocabularies list the codons by falling frequency in bacterial genes; these are
# the same ids, so that its models and ours agree on what a token is.
GENSLM_ORDER = (
    "GGC GCC ATC GAC GAA ATG GTG CTG GTC GCG GAT AAA GGT AAG GAG ACC "
    "AAC GTT ATT GCA CTC CGC GCT CAG CCG TTC GTA TCG GGA AAT TAC CTT "
    "TTG ACG TCC GGG AGC CCC ACA ACT TCT TTA CGT TAT CAA CGG TTT CAC "
    "CCT CCA TGG ATA TCA TGC AGT AGA CAT TGT CTA AGG TAA CGA TGA TAG"
)
GENSLM_SPECIALS = {
    "71": ["[UNK]", "[CLS]", "[BOS]", "[EOS]", "[SEP]", "[PAD]", "[MASK]"],
    "69": ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
}


def codons(size: str = "71") -> Words:
    """GenSLM's codons: 64 and 7 special tokens (documents end with [EOS]), or 5 ([SEP])."""
    if size not in GENSLM_SPECIALS:
        raise UserError(
            f"--tokenizer codon:{size}: the vocabularies are codon:71 (= codon) and codon:69"
        )
    specification = "codon" if size == "71" else f"codon:{size}"
    end = "[EOS]" if size == "71" else "[SEP]"
    return Words(specification, GENSLM_SPECIALS[size], GENSLM_ORDER.split(), "[UNK]", end)


def kmers(size: str) -> Words:
    """All words of K bases, not overlapping, in alphabetical order after [UNK] and [EOD]."""
    if not size.isdecimal() or not 1 <= int(size) <= LONGEST_KMER:
        raise UserError(f"--tokenizer kmer:{size}: K is a number from 1 to {LONGEST_KMER}")
    words = ["".join(letters) for letters in product("ACGT", repeat=int(size))]
    return Words(f"kmer:{int(size)}", ["[UNK]", "[EOD]"], words, "[UNK]", "[EOD]")


def sequence_tokenizer(specification: str) -> SequenceTokenizer:
    """The tokenizer a specification names; UserError for one that is none."""
    kind, _, argument = specification.partition(":")
    if specification == "nucleotide":
        return Nucleotides()
    if kind == "codon":
        return codons(argument or "71")
    if kind == "kmer":
        return kmers(argument)
    raise UserError(f"--tokenizer {specification!r} is unknown: use nucleotide, codon or kmer:K")
