"""Specification → tokenizer, given by the user or kept beside data.

A new tokenizer is a module here with a function of its specification's argument, a row below, and
one in kinds.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.kinds import FLAG, check_specification, kind_of
from longseq.data.tokenizers.nucleotides import nucleotides
from longseq.data.tokenizers.tagged import FILE as TAGS
from longseq.data.tokenizers.tagged import KIND, Tagged, read_tags
from longseq.data.tokenizers.text import byte_tokens, gpt2, huggingface
from longseq.data.tokenizers.words import codons, kmers

# kind → what makes it from the part after the colon, once check_specification has looked at that
TOKENIZERS: dict[str, Callable[[str], Tokenizer]] = {
    "nucleotide": nucleotides,
    "codon": codons,
    "kmer": kmers,
    "byte": byte_tokens,
    "huggingface": huggingface,
    "gpt2": gpt2,
}


def tokenizer_from(specification: str, flag: str = FLAG) -> Tokenizer:
    """The tokenizer that a flag names."""
    check_specification(specification, flag)
    kind, argument = kind_of(specification, flag)
    return TOKENIZERS[kind](argument)


def tokenizer_beside(prefix: str, specification: str) -> Tokenizer:
    """The tokenizer of prepared data; text tokenizers from the files copied beside it."""
    if specification.startswith(KIND):
        inner = tokenizer_beside(prefix, specification.removeprefix(KIND))
        return Tagged(inner, read_tags(f"{prefix}.{TAGS}"))
    if specification == "huggingface":
        return tokenizer_from(f"huggingface:{prefix}.tokenizer.json")
    if specification == "gpt2":
        return tokenizer_from(f"gpt2:{prefix}.vocab.json,{prefix}.merges.txt")
    return tokenizer_from(specification)


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Keep a tokenizer beside a model: vocabulary.json, and the files a text tokenizer came from.

    A checkpoint that is all that is left of a run still says what its tokens were.
    """
    facts = {
        "tokenizer": tokenizer.specification,
        "vocab_size": tokenizer.vocab_size,
        "end_of_document": tokenizer.end_of_document,
        "tokens": tokenizer.names(),
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / "vocabulary.json").write_text(text, encoding="utf-8")
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)
