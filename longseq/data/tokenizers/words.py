"""`kmer:K` and `codon`: words of K bases side by side, looked up in a table.

kmers("6")                       every word of six bases, in alphabetical order
codons(), codons("69")           words of three, numbered as GenSLM numbers them
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.alphabet import Codes
from longseq.data.tokenizers.base import SequenceTokenizer


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
        self._specials = len(specials)
        self._names = [*specials, *words]
        places = {word: len(specials) + place for place, word in enumerate(words)}
        alphabetical = ("".join(letters) for letters in product("ACGT", repeat=self.bases))
        self._ids = np.array([places[word] for word in alphabetical], dtype=self.dtype)
        self._bytes = b""  # the same table for bytes.translate, which is twice as fast
        if self.bases <= 3:
            self._bytes = np.resize(self._ids, 256).tobytes()

    def encode(self, codes: Codes) -> Tokens:
        tokens = self._look_up(self._numbers(codes))
        if codes.size and int(codes.max()) > 3:
            together = codes[0 :: self.bases].copy()  # its bits tell whether a code is above 3
            for place in range(1, self.bases):
                np.bitwise_or(together, codes[place :: self.bases], out=together)
            tokens[together > 3] = self.unknown
        return tokens

    def _numbers(self, codes: Codes) -> npt.NDArray[np.unsignedinteger]:
        """Each word read as a number with base 4; garbage where a letter is foreign.

        First of every stretch of up to four letters, wherever it starts: that is done without
        strides, by vector instructions, and takes a tenth of the time.
        """
        block = min(self.bases, 4)
        count = max(0, len(codes) - block + 1)
        blocks = codes[:count].copy()
        for place in range(1, block):
            np.multiply(blocks, np.uint8(4), out=blocks)
            np.bitwise_or(blocks, codes[place : count + place], out=blocks)
        if self.bases == block:
            return np.ascontiguousarray(blocks[:: self.bases])
        numbers = blocks[:: self.bases].astype(np.uint32)
        for place in range(block, self.bases, block):
            letters = min(block, self.bases - place)
            last = blocks[place + letters - block :: self.bases] & np.uint8(4**letters - 1)
            numbers = numbers * np.uint32(4**letters) | last
        return numbers

    def _look_up(self, numbers: npt.NDArray[np.unsignedinteger]) -> Tokens:
        if self._bytes:
            return np.frombuffer(bytearray(numbers.tobytes().translate(self._bytes)), np.uint8)
        tokens: Tokens = self._ids.take(numbers & (len(self._ids) - 1))
        return tokens

    def ambiguous(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        return np.asarray(tokens == self.unknown)

    def decode(self, tokens: Tokens) -> str:
        return "".join([self._names[token] for token in tokens.tolist()])

    def no_letters(self) -> list[int]:
        return list(range(self._specials))

    def names(self) -> list[str]:
        return self._names


def kmers(size: str) -> Words:
    """All words of K bases, not overlapping, in alphabetical order after [UNK] and [EOD]."""
    words = ["".join(letters) for letters in product("ACGT", repeat=int(size))]
    return Words(f"kmer:{int(size)}", ["[UNK]", "[EOD]"], words, "[UNK]", "[EOD]")


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


def codons(size: str = "") -> Words:
    """GenSLM's codons: 64 and 7 special tokens (documents end with [EOS]), or 5 ([SEP])."""
    size = size or "71"
    specification = "codon" if size == "71" else f"codon:{size}"
    end = "[EOS]" if size == "71" else "[SEP]"
    return Words(specification, GENSLM_SPECIALS[size], GENSLM_ORDER.split(), "[UNK]", end)
