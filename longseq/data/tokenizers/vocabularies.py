"""Specification → tokenizer, given by the user or kept beside data."""

import json
from pathlib import Path

from longseq.data.tokenizers.sequence import Tokenizer, sequence_tokenizer
from longseq.errors import UserError

KNOWN = "nucleotide, codon, codon:69, kmer:K, byte, huggingface:FILE or gpt2:VOCAB,MERGES"


def tokenizer_from(specification: str) -> Tokenizer:
    """The tokenizer that --tokenizer names."""
    kind, _, argument = specification.partition(":")
    if kind in ("nucleotide", "codon", "kmer"):
        return sequence_tokenizer(specification)
    from longseq.data.tokenizers.text import Bytes, gpt2, huggingface

    if specification == "byte":
        return Bytes()
    if kind == "huggingface" and argument:
        return huggingface(argument)
    if kind == "gpt2" and argument.count(",") == 1:
        return gpt2(*argument.split(","))
    raise UserError(f"--tokenizer {specification!r} is unknown: use {KNOWN}")


def tokenizer_beside(prefix: str, specification: str) -> Tokenizer:
    """The tokenizer of prepared data; text tokenizers from the files copied beside it."""
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
    for name, content in getattr(tokenizer, "files", {}).items():
        (folder / name).write_bytes(content)
