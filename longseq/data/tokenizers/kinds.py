"""Which tokenizers there are, and whether a specification can be one of them.

    check_specification("kmer:6", "--tokenizer-type")      # raises UserError in the flag's name
    is_of_text("byte")
    files_of("gpt2:VOCAB,MERGES")

Standard library only, without making the tokenizer: a login node asks, too.
"""

import os

from longseq.config.flags import whole
from longseq.errors import UserError

WRITTEN = {
    "nucleotide": "nucleotide",
    "codon": "codon, codon:69",
    "kmer": "kmer:K",
    "byte": "byte",
    "huggingface": "huggingface:FILE",
    "gpt2": "gpt2:VOCAB,MERGES",
}
KNOWN = ", ".join(WRITTEN.values())
OF_TEXT = ("byte", "huggingface", "gpt2")  # text.TextTokenizer; the others are of sequences
LONGEST_KMER = 12  # 4^12 = 16.8 million tokens
TAGGED = "tagged:"  # before one whose documents begin with tags (tagged.py)
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"  # its words; its end, if that is there
FLAG, TYPE_FLAG = "--tokenizer", "--tokenizer-type"  # of prepare; of training


def kind_of(specification: str, flag: str = FLAG) -> tuple[str, str]:
    """Its kind, and what stands after the colon; UserError for a kind that there is not."""
    kind, _, argument = specification.partition(":")
    if kind not in WRITTEN:
        raise UserError(f"{flag} {specification!r} is unknown: use one of {KNOWN}")
    return kind, argument


def is_of_text(specification: str) -> bool:
    """Whether it is one of text, without reading its files."""
    return kind_of(specification)[0] in OF_TEXT


def files_of(specification: str) -> list[str]:
    """The files that it names, or the empty name of one that it lacks; its end's beside them."""
    kind, _, argument = specification.partition(":")
    if kind == "gpt2":
        return argument.split(",", 1)
    if argument.endswith(FILE) and os.path.exists(argument.removesuffix(FILE) + CONFIG):
        return [argument, argument.removesuffix(FILE) + CONFIG]
    return [argument] if kind in OF_TEXT else []


def check_specification(specification: str, flag: str = FLAG) -> None:
    """Raise UserError where it is no tokenizer, or a file of it cannot be read."""
    kind, argument = kind_of(specification, flag)
    given = f"{flag} {kind}:{argument}"
    if kind in ("nucleotide", "byte") and argument:
        raise UserError(f"{given}: {kind} takes nothing after it")
    if kind == "kmer" and not 1 <= whole(argument) <= LONGEST_KMER:
        raise UserError(f"{given}: K is a number from 1 to {LONGEST_KMER}")
    if kind == "codon" and argument not in ("", "71", "69"):
        raise UserError(f"{given}: the vocabularies are codon:71 (= codon) and codon:69")
    files = files_of(specification)
    if kind == "huggingface" and not argument:
        raise UserError(f"{flag} {kind}: name its file, as in huggingface:tokenizer.json")
    if kind == "gpt2" and not (len(files) == 2 and files[1]):
        raise UserError(f"{given}: name two files, as in gpt2:VOCAB,MERGES")
    for path in filter(None, files):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise UserError(f"{flag}: {path}: {error.strerror}") from None
