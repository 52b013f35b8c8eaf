"""Our tokenizers in the form that transformers loads, the library `tokenizers`: the same tokens.

    inner = as_library(tokenizer)            # tokenizers.Tokenizer
    write_tokenizer_files(tokenizer, folder, length)

What ours refuses, a letter that stands for no base, is an error there where the vocabulary has no
[UNK], and [UNK] where it has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Inner

from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.folding import folding
from longseq.data.tokenizers.tagged import FILE as TAGS
from longseq.data.tokenizers.tagged import Tagged, untagged
from longseq.data.tokenizers.text import Bytes, Library
from longseq.errors import UserError

OURS = "longseq_tokenizer"  # our specification, in tokenizer_config.json
PADDING = ("[PAD]", "<pad>", "<|pad|>")


def as_library(tokenizer: Tokenizer) -> Any:
    """The tokenizer of the library that gives the same tokens."""
    if isinstance(tokenizer, SequenceTokenizer):
        inner = _of_letters(tokenizer)
    elif isinstance(tokenizer, Bytes):
        inner = _of_bytes()
    elif isinstance(tokenizer, Library):
        inner = Inner.from_str(tokenizer.as_json())
    elif isinstance(tokenizer, Tagged):
        return _with_tags(tokenizer)
    else:
        raise UserError(f"tokenizer {tokenizer.specification} has no form in transformers")
    inner.add_special_tokens([tokenizer.names()[tokenizer.end_of_document]])
    return inner


def _with_tags(tokenizer: Tagged) -> Any:
    """Tags as special tokens, which are found before letters are folded and cut into words. The
    library numbers them itself, on from its own count of tokens.
    """
    inner = as_library(tokenizer.inner)
    inner.add_special_tokens(tokenizer.tags)
    first = tokenizer.inner.vocab_size
    if any(inner.token_to_id(name) != id for id, name in enumerate(tokenizer.tags, first)):
        raise UserError(
            f"tokenizer {tokenizer.specification}: its ids leave gaps or its tags are tokens of its"
            " own, and transformers would number them anew: ./longseq.sh checkpoint convert writes"
            " the weights alone"
        )
    return inner


def vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    """Names → ids, as the library has them, in the order of the ids."""
    inner = untagged(tokenizer)
    tags = tokenizer.tags if isinstance(tokenizer, Tagged) else []
    numbered = {tag: number for number, tag in enumerate(tags, inner.vocab_size)}
    return _by_id(as_library(inner)) | numbered


def vocabulary_of(path: Path) -> dict[str, int]:
    """The same of a tokenizer.json."""
    try:
        return _by_id(Inner.from_str(path.read_text(encoding="utf-8")))
    except Exception as error:  # the library's own
        raise UserError(f"{path} is not a tokenizer.json ({error})") from None


def _by_id(inner: Any) -> dict[str, int]:
    return dict(sorted(inner.get_vocab().items(), key=lambda item: item[1]))


def _of_letters(tokenizer: SequenceTokenizer) -> Any:
    """Letters folded as ours are, then words of as many letters as a token has, looked up.

    Letters behind the last whole word are left out.
    """
    vocabulary = {name: number for number, name in enumerate(tokenizer.names())}
    inner = Inner(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = folding()
    word = Regex(f"[^\\s]{{{tokenizer.bases}}}")
    inner.pre_tokenizer = pre_tokenizers.Split(word, behavior="removed", invert=True)
    inner.decoder = decoders.Fuse()
    return inner


def _of_bytes() -> Any:
    """A token a byte, by the byte's own number."""
    letters = _byte_letters()
    inner = Inner(models.BPE({letter: byte for byte, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _byte_letters() -> list[str]:
    """The letter that the library's ByteLevel writes for each byte: itself where it is printable,
    the others in order from 256 on (arXiv 1909.03341's reference code; a test asks the library).
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]


def padding_of(tokenizer: Tokenizer) -> str:
    """The token that fills a batch up: one that the vocabulary has for it, else the end, as GPT-2's
    users do; a new one would need a row that was never trained.

    It is the tokenizer's alone: where config.json names it as well (pad_token_id), transformers
    does not train its row of the embedding, and the end is a token like others.
    """
    names = tokenizer.names()
    found = (name for name in PADDING if name in names)
    return next(found, names[tokenizer.end_of_document])


def write_tokenizer_files(tokenizer: Tokenizer, folder: Path, length: int) -> None:
    """tokenizer.json, tokenizer_config.json and, for the way back, the tags; length: the longest
    sequence of the model.
    """
    whole = as_library(tokenizer).to_str(pretty=True)  # its own save() has no OSError
    (folder / "tokenizer.json").write_text(whole, encoding="utf-8")
    names = tokenizer.names()
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": names[tokenizer.end_of_document],
        "bos_token": names[tokenizer.end_of_document],
        "pad_token": padding_of(tokenizer),
        **({"unk_token": "[UNK]"} if "[UNK]" in names else {}),
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
        OURS: tokenizer.specification,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    if isinstance(tokenizer, Tagged):
        (folder / TAGS).write_bytes(tokenizer.files[TAGS])
