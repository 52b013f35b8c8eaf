"""What a network makes of genes: its losses by codon position, and genes beside their own shuffled.

figures = of_genes(ready, given, found, cuts, call=True)

Genes are what the data say is one; with `call` they are called in records of which nothing is said.
Tokens are of one letter, or of a codon: then no position in it has a loss of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import code_table
from longseq.inference.evaluation.codons import (
    UNSAID,
    Gene,
    by_codon,
    coding,
    genes_of,
    in_frame,
    places,
    shuffled,
)
from longseq.inference.evaluation.held_out import NO_GENE, Given
from longseq.inference.evaluation.losses import Found
from longseq.inference.sequences import Sequence
from longseq.inference.windows import Cutting

if TYPE_CHECKING:
    from longseq.inference.network import Ready

SHUFFLED = 200  # genes that are scored against themselves with codons shuffled
LETTER, CODON = 1, 3  # letters of a token


def letters_a_token(tokenizer: Tokenizer) -> int:
    """LETTER or CODON; 0 for tokens that genes cannot be made of."""
    bases = tokenizer.bases if isinstance(tokenizer, SequenceTokenizer) else 0
    return bases if bases in (LETTER, CODON) else 0


def of_genes(ready: Ready, given: Given, found: Found, cuts: Cutting, call: bool) -> dict[str, Any]:
    """Losses by codon position, if tokens are letters; with `call` genes against themselves
    shuffled as well.
    """
    tokenizer = ready.trained.tokenizer
    assert isinstance(tokenizer, SequenceTokenizer)
    where: list[npt.NDArray[np.int64]] = []
    whole: list[str] = []
    for record, frame in zip(given.records, given.frames, strict=True):
        text = tokenizer.spelled(record.tokens)
        genes: list[Gene] = []
        if frame is not None and frame != NO_GENE:
            genes = [(frame, len(text) - (len(text) - frame) % 3, False)]
            where.append(in_frame(len(text), frame))
        elif frame is None and call:
            genes = genes_of(text)
            where.append(places(len(text), genes))
        else:
            where.append(np.full(len(text), UNSAID))
        whole += coding(text, genes) if call and len(whole) < SHUFFLED else []
    figures: dict[str, Any] = {}
    if tokenizer.bases == LETTER and (positions := by_codon(found.each, where)):
        figures["by_codon_position"] = positions
    if call:
        figures["genes"] = _against_shuffled(ready, whole[:SHUFFLED], cuts)
    return figures


def _against_shuffled(ready: Ready, genes: list[str], cuts: Cutting) -> dict[str, Any]:
    """log p(gene) - log p(the same with synonymous codons shuffled), a codon, in nats."""
    from longseq.inference.forward import scored

    generator = np.random.default_rng(0)
    letters = [text for gene in genes for text in (gene, shuffled(gene, generator))]
    tokenizer = ready.trained.tokenizer
    assert isinstance(tokenizer, SequenceTokenizer)
    codes = [np.frombuffer(text.encode().translate(code_table()), np.uint8) for text in letters]
    records = [
        Sequence(f"gene-{number}", tokenizer.encode(each), len(each))
        for number, each in enumerate(codes)
    ]
    totals = [-float(each.sum(dtype=np.float64)) for _, each in scored(ready, records, cuts)]
    if not genes:
        return {"compared": 0}
    gains = [
        (own - other) / (len(gene) / 3)
        for gene, own, other in zip(genes, totals[::2], totals[1::2], strict=True)
    ]
    return {
        "compared": len(genes),
        "scored_above_shuffled": sum(gain > 0 for gain in gains),
        "nats_a_codon_above_shuffled": float(np.mean(gains)),
    }
