"""How letters become tokens: what `longseq prepare` was asked for, and its tables."""

from dataclasses import dataclass

import numpy as np

from longseq.data.sources.names import REMEDY, called, no_nucleotide
from longseq.data.tokenizers.kinds import OF_TEXT
from longseq.data.tokenizers.letters import GAPS, INVALID, LAYOUT, LETTERS, UNKNOWN, code_table
from longseq.errors import UserError

BASES = bytes(range(4))


@dataclass(frozen=True)
class Recipe:
    """The same for every worker, and kept in the manifest.

    min_length: bases below which a record is left out. features: the kinds of features that are
    documents, or "" for whole records; translation_table: the genetic code of all, or 0.
    lower_case_weight, unknown_weight: how much of a loss lower-case letters, and letters other than
    ACGT, are to count for. tags: what is told of a document by tokens before it, "organism,gene";
    tag_weight: what these count for.
    """

    tokenizer: str = "nucleotide"
    ambiguous: str = "keep"
    mask_lower_case: bool = False
    reverse_complement: bool = False
    genes: bool = False
    min_length: int = 0
    lower_case_weight: float = 1.0
    unknown_weight: float = 1.0
    features: str = ""
    translation_table: int = 0
    tags: str = ""
    tag_weight: float = 0.0

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights a token can have, from 1 down; a token is stored with its place here."""
        known = {1.0, self.lower_case_weight, self.unknown_weight}
        return tuple(sorted(known | ({self.tag_weight} if self.tags else set()), reverse=True))

    @property
    def weighted(self) -> bool:
        """Whether letters have weights."""
        return self.lower_case_weight < 1 or self.unknown_weight < 1

    @property
    def tag_names(self) -> tuple[str, ...]:
        return tuple(filter(None, self.tags.split(",")))

    @property
    def kind(self) -> str:
        """Of the tokenizer."""
        return self.tokenizer.partition(":")[0]

    @property
    def in_codons(self) -> bool:
        return self.kind == "codon"

    @property
    def of_nucleotides(self) -> bool:
        """Whether it says something of letters that only nucleotides can follow."""
        return self.mask_lower_case or self.ambiguous != "keep"

    def code_table(self) -> bytes:
        """Letter → code (tokenizers/letters.py), for bytes.translate."""
        table = code_table(self.mask_lower_case)
        if self.ambiguous == "n":
            fold = bytes(min(c, UNKNOWN) if c != INVALID else c for c in range(256))
            table = table.translate(fold)
        return table

    def weight_table(self) -> bytes:
        """Letter → place of its weight in `weights`; the largest of a word's is the word's."""
        codes = np.frombuffer(self.code_table(), np.uint8)  # as they are read: masked ones as N
        table = np.zeros(256, np.uint8)
        lower = self.weights.index(self.lower_case_weight)
        table[[letter for letter in range(256) if chr(letter).islower()]] = lower
        foreign = codes > len(BASES) - 1
        table[foreign] = np.maximum(table[foreign], self.weights.index(self.unknown_weight))
        return table.tobytes()

    def check(
        self,
        path: str,
        name: str,
        codes: bytes,
        before: int = 0,
        remedy: str = "",
        raw: bytes = b"",
    ) -> None:
        """Refuse what is no nucleotide and, where asked, what is none of A, C, G, T.

        before: letters of the record that came before these. raw: what they are codes of.
        """
        place = codes.find(INVALID)
        if place >= 0:
            rest = raw.translate(None, LAYOUT + GAPS)[place:]
            raise no_nucleotide(path, name, before + place, remedy or self._remedy, rest)
        if self.ambiguous == "refuse" and (foreign := codes.translate(None, BASES)):
            place = before + codes.find(foreign[0]) + 1
            raise UserError(
                f"{called(path, name)}: letter {place:,} is {LETTERS[foreign[0]]}: choose another"
                " policy than --ambiguous refuse"
            )

    @property
    def _remedy(self) -> str:
        """Where something is no nucleotide."""
        if self.kind not in OF_TEXT:
            return REMEDY
        if self.of_nucleotides:
            return "mend the record, or leave out --mask-lower-case and --ambiguous"
        return "mend the record, or use another --tokenizer, as byte"
