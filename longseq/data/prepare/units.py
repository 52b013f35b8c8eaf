"""One record → the stretches that become documents: itself, its other strand, its genes, its
features.
"""

import mmap
from collections import Counter

import numpy as np

from longseq.data.prepare.recipe import BASES, Recipe
from longseq.data.sources.annotation.features import CODING, Feature
from longseq.data.tokenizers.alphabet import COMPLEMENT, letters
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import UNKNOWN
from longseq.errors import UserError

COMPLEMENT_TABLE = COMPLEMENT.tobytes() + bytes(range(len(COMPLEMENT), 256))
Letters = bytes | mmap.mmap  # slices of either are bytes
INSDC_TABLE = 1  # the genetic code of a coding sequence that names none


class Units:
    """Stretches of codes of a file that become documents, with the places they come from."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.codes: list[bytes] = []
        self.owner: list[int] = []
        self.begin: list[int] = []
        self.backward: list[bool] = []
        self.weights: list[bytes] = []
        self.features: list[Feature] = []

    def add(self, codes: bytes, owner: int, begin: int, backward: bool, weights: bytes) -> None:
        self.codes.append(codes)
        self.owner.append(owner)
        self.begin.append(begin)
        self.backward.append(backward)
        self.weights.append(weights)


def record_units(
    recipe: Recipe, codes: bytes, weights: bytes, owner: int, units: Units, counts: Counter[str]
) -> None:
    """A record itself, with its other strand, or its genes. weights: of its letters, or empty."""
    if recipe.genes:
        from longseq.data.sources.gene_calling import find_genes

        sequence = letters(np.minimum(np.frombuffer(codes, np.uint8), UNKNOWN)).encode()
        genes = find_genes(sequence, recipe.translation_table)
        counts["genes"] += len(genes.spans)
        counts["bases_outside_genes"] += len(codes) - genes.covered
        for first, last, backward in genes.spans:
            _span(codes, weights, owner, (first, last), backward, units)
        return
    _span(codes, weights, owner, (0, len(codes)), False, units)
    if recipe.reverse_complement:
        _span(codes, weights, owner, (0, len(codes)), True, units)


def _span(
    codes: bytes, weights: bytes, owner: int, span: tuple[int, int], backward: bool, units: Units
) -> None:
    first, last = span
    codes, weights = codes[first:last], weights[first:last]
    if backward:
        codes, weights = codes[::-1].translate(COMPLEMENT_TABLE), weights[::-1]
    units.add(codes, owner, last if backward else first, backward, weights)


def feature_units(
    recipe: Recipe, codes: Letters, weights: Letters, features: tuple[Feature, ...],
    owner: int, units: Units, counts: Counter[str],
) -> None:  # fmt: skip
    """A record's features, each its parts joined as they are read.

    Coding sequences that become codons begin at their first whole one. A feature of several parts
    has no place that a cut could divide: how far it reaches is kept beside (known/features.py).
    """
    for feature in features:
        coding = recipe.in_codons and feature.kind == CODING
        first = feature.phase if coding else 0
        unit = _joined(codes, feature, COMPLEMENT_TABLE)[first:]
        counts["features"] += 1
        counts["feature_bases"] += len(unit)
        counts["letters_before_frame"] += first
        if left_out(recipe, len(unit), unit, counts):
            continue
        if coding:
            from longseq.data.sources.annotation.coding import check_coding, unknown_code

            table = recipe.translation_table or feature.table or INSDC_TABLE
            if said := unknown_code(table):
                raise UserError(
                    f"{units.path}: {feature.kind} {feature.name} has transl_table {said}: mend it,"
                    " or overrule it with --translation-table"
                )
            check_coding(unit, table, counts)
        begin, backward = feature.low, False
        if len(feature.parts) == 1:
            start, stop, backward = feature.parts[0]
            begin = stop - first if backward else start + first
        beside = _joined(weights, feature, bytes(range(256)))[first:] if len(weights) else b""
        units.add(unit, owner, begin, backward, beside)
        units.features.append(feature)


def _joined(values: Letters, feature: Feature, other_strand: bytes) -> bytes:
    """The parts of a feature, one after the other; other_strand: what becomes of a value there."""
    found = []
    for start, stop, backward in feature.parts:
        part = values[start:stop]
        found.append(part[::-1].translate(other_strand) if backward else part)
    return b"".join(found)


def left_out(recipe: Recipe, length: int, codes: bytes, counts: Counter[str]) -> bool:
    """Whether a record, or a feature, makes no document; counts say why."""
    if not length:
        counts["empty_records"] += 1
    elif length < recipe.min_length:
        counts["short_records"] += 1
        counts["short_bases"] += length
    elif recipe.ambiguous == "drop" and codes.translate(None, BASES):
        counts["dropped_records"] += 1
        counts["dropped_bases"] += length
    else:
        return False
    return True


def check_sums(recipe: Recipe, counts: Counter[str], tokenizer: Tokenizer, tokens: int) -> None:
    """Bases in = bases in tokens + what the counts say was left out; else it is our fault.

    tokens: without ends and tags.
    """
    if recipe.genes or not isinstance(tokenizer, SequenceTokenizer):
        return
    strands = 2 if recipe.reverse_complement else 1
    read = counts["feature_bases" if recipe.features else "bases"]
    expected = strands * (read - counts["dropped_bases"] - counts["short_bases"])
    expected -= counts["trailing_bases"] + counts["ambiguous_left_out"]
    expected -= counts["duplicate_tokens"] * tokenizer.bases
    found = tokens * tokenizer.bases
    if found != expected:
        raise RuntimeError(f"{found} bases were written where {expected} were read")
