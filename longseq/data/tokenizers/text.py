"""Tokenizers of text, for comparison with runs that were made with them: bytes, GPT-2's, Hugging
Face's.

The library `tokenizers` does the work. Its files are copied beside the data: what is needed to
decode a token must not depend on a path that someone may move.
"""

import json
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.tokenizers.base import PRINTED, Tokenizer
from longseq.data.tokenizers.completing import complete_decoder, never_failing
from longseq.data.tokenizers.kinds import CONFIG, FILE
from longseq.data.tokenizers.letters import LETTERS
from longseq.errors import UserError

BASES = "ACGT"
BLANK = "\u0120"  # a blank in the names of ByteLevel tokens
PLAIN = LETTERS.encode()
# Of a tokenizer that does not say which token ends a document, the first of these that it has
END_NAMES = ("<|endoftext|>", "</s>", "<eos>", "[EOS]", "<eod>", "[SEP]")


class TextTokenizer(Tokenizer):
    """A tokenizer of bytes of text; it ends a document with a token of its own.

    nucleotides: whether it knows no other letters than these, as DNA words do: then sequences are
    read as nucleotides, U as T, and what is none is refused.
    """

    nucleotides = False

    @abstractmethod
    def encode_all(self, texts: list[bytes]) -> list[Tokens]:
        """Token ids of each text."""

    def unknown(self, text: bytes, tokens: Tokens) -> tuple[int, int]:
        """How many letters of a text its tokens do not stand for, and the place of the first."""
        return 0, 0


class Bytes(TextTokenizer):
    """One token a byte, and 256 for the end of a document."""

    def __init__(self) -> None:
        self.specification = "byte"
        self.vocab_size = 257
        self.end_of_document = 256

    def encode_all(self, texts: list[bytes]) -> list[Tokens]:
        return [np.frombuffer(text, dtype=np.uint8).astype(np.uint16) for text in texts]

    def decode(self, tokens: Tokens) -> str:
        text = tokens[tokens < 256].astype(np.uint8).tobytes().decode("utf-8", "replace")
        return text + "<eod>" * int((tokens == 256).sum())

    def no_letters(self) -> list[int]:
        return [token for token in range(257) if chr(token) not in PRINTED]

    def sizes(self, tokens: Tokens) -> Ints:
        return (tokens < 256).astype(np.int64)

    def names(self) -> list[str]:
        return [repr(bytes([byte]))[2:-1] for byte in range(256)] + ["<eod>"]


class Library(TextTokenizer):
    """A tokenizer of Hugging Face's library, from its files' contents.

    end: the token that ends a document, where it is said and there is one of this name.
    """

    def __init__(self, kind: str, inner: Any, files: dict[str, bytes], end: str = "") -> None:
        self.specification = kind
        self.files = files
        self._inner = inner
        self._names = {number: name for name, number in inner.get_vocab().items()}
        self.vocab_size = max(self._names, default=-1) + 1  # ids may leave gaps
        single = {name for name in inner.get_vocab() if len(name) == 1}
        self.nucleotides = set(BASES) <= single <= set(LETTERS)
        self._encoder, self._unknown = never_failing(inner, self.vocab_size)
        complete_decoder(inner, self._encoder, self._unknown, f"--tokenizer {kind}")
        self._bare: Any = None  # for letters that the normalizer leaves as they are: much quicker
        step = inner.normalizer if self.nucleotides else None
        if step is not None and step.normalize_str(LETTERS) == LETTERS:
            self._bare = type(inner).from_str(self._encoder.to_str())
            self._bare.normalizer = None
        self._sizes: dict[int, int] = {}  # bytes of each token's spelling
        self._dropped: dict[str, bool] = {}  # whether a character leaves no token at all
        self._kept = b""  # ASCII characters that do leave one
        usual = [name for name in END_NAMES if name in inner.get_vocab()]
        if end not in inner.get_vocab():
            end = next(iter(usual), "")
        if not end:
            raise UserError(
                f"--tokenizer {kind}: no token ends a document: add one of {', '.join(END_NAMES)},"
                f" or name a token that does as eos_token in {CONFIG} beside {FILE}"
            )
        if end not in usual[:1]:  # its name alone does not say so
            facts = json.dumps({"eos_token": end}, ensure_ascii=False)
            self.files = {**files, CONFIG: f"{facts}\n".encode()}
        self.end_of_document = inner.token_to_id(end)

    def encode_all(self, texts: list[bytes]) -> list[Tokens]:
        strings = [text.decode("utf-8", "replace") for text in texts]
        encoder = self._encoder
        if self._bare is not None and not any(text.translate(None, PLAIN) for text in texts):
            encoder = self._bare
        try:
            encodings = encoder.encode_batch_fast(strings, add_special_tokens=False)
        except Exception as error:  # the library's own: a Unigram without an unknown token, say
            raise UserError(
                f"--tokenizer {self.specification} cannot encode this: {error}; its file may need"
                " an unknown token"
            ) from None
        found = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        return [ids[ids < self.vocab_size].astype(self.dtype) for ids in found]

    def decode(self, tokens: Tokens) -> str:
        return str(self._inner.decode(tokens.tolist(), skip_special_tokens=False))

    def no_letters(self) -> list[int]:
        added = self._inner.get_added_tokens_decoder()
        special = {number for number, token in added.items() if token.special}
        special |= {self.end_of_document, self._unknown}
        good = set(LETTERS) if self.nucleotides else PRINTED
        return [
            token
            for token in range(self.vocab_size)
            if token in special
            or not self._names.get(token)
            or not good.issuperset(self._adds(token))
        ]

    def _adds(self, token: int) -> str:
        """What a token adds to a text, but for blanks around it."""
        name = self._names[token]
        if type(self._inner.decoder).__name__ == "ByteLevel":  # whose names have other bytes so
            return name.replace(BLANK, " ").strip(" ")
        both, one = (self._inner.decode(ids, skip_special_tokens=False)
                     for ids in ([token, token], [token]))  # fmt: skip
        return str(both[len(one) :].strip(" "))

    def sizes(self, tokens: Tokens) -> Ints:
        different, places = np.unique(tokens, return_inverse=True)
        return np.array([self._size(token) for token in different.tolist()], np.int64)[places]

    def _size(self, token: int) -> int:
        """Bytes that a token adds to a text: decoded behind another one, for the library may spell
        the first one without the blank that it begins with.
        """
        if token not in self._sizes:
            name = self._names.get(token, "")
            if type(self._inner.decoder).__name__ == "ByteLevel":  # may be a part of a character
                self._sizes[token] = len(name)
            else:
                both, one = (self._inner.decode(ids, skip_special_tokens=False)
                             for ids in ([token, token], [token]))  # fmt: skip
                self._sizes[token] = len(both.encode()) - len(one.encode())
        return self._sizes[token]

    def as_json(self) -> str:
        """What a tokenizer.json holds."""
        return str(self._inner.to_str())

    def definition(self) -> Any:
        """A special token that a file only declares is left out of it, as transformers declares the
        end, the unknown and the padding, which no sequence spells out.
        """
        facts = json.loads(self.as_json())
        steps = [facts[name] for name in ("normalizer", "pre_tokenizer", "model")]
        return self.end_of_document, self.names(), steps

    def names(self) -> list[str]:
        """Ids that the files leave out have the empty name."""
        return [self._names.get(number, "") for number in range(self.vocab_size)]

    def unknown(self, text: bytes, tokens: Tokens) -> tuple[int, int]:
        if self._unknown == self.vocab_size:  # left out of the tokens
            fused = type(self._inner.decoder).__name__ == "Fuse"
            whole = fused and self.letters(tokens) == len(text)
            return (0, 0) if whole else self._without(text.decode("utf-8", "replace"))
        if self._unknown is not None and bool((tokens == self._unknown).any()):
            return self._without(text.decode("utf-8", "replace"))
        if not text.translate(None, self._kept):  # as of most texts
            return 0, 0
        string = text.decode("utf-8", "replace")
        lost = [letter for letter in set(string) if self._drops(letter)]
        if not lost:
            return 0, 0
        return sum(map(string.count, lost)), min(map(string.index, lost))

    def _without(self, string: str) -> tuple[int, int]:
        """Letters of the words that are unknown; of those that are left out blanks are none."""
        encoding = self._encoder.encode(string, add_special_tokens=False)
        places = zip(encoding.ids, encoding.offsets, strict=True)
        spans = [span for number, span in places if number == self._unknown]
        if self._unknown == self.vocab_size:
            spans = [(start, stop) for start, stop in spans if not string[start:stop].isspace()]
        return sum(stop - start for start, stop in spans), spans[0][0] if spans else 0

    def _drops(self, letter: str) -> bool:
        """Whether a character, no blank, makes no token, as in a BPE without unknown token."""
        if letter not in self._dropped:
            nothing = not self._inner.encode(letter, add_special_tokens=False).ids
            self._dropped[letter] = nothing and not letter.isspace()
            if letter.isascii() and not self._dropped[letter]:
                self._kept += letter.encode()
        return self._dropped[letter]


def byte_tokens(argument: str = "") -> Bytes:
    """The one there is; it takes no argument."""
    return Bytes()


def huggingface(path: str, end: str = "") -> Library:
    """From a tokenizer.json; what ends a document says `end`, or a tokenizer_config.json beside."""
    _one_thread()
    from tokenizers import Tokenizer as Inner

    content = _read(path)
    try:
        inner = Inner.from_str(content.decode("utf-8"))
    except Exception as error:
        raise UserError(
            f"--tokenizer huggingface:{path} is not a tokenizer.json ({error})"
        ) from None
    inner.no_truncation()  # transformers saves what its last call was asked for
    inner.no_padding()
    return Library("huggingface", inner, {FILE: content}, end or _end_beside(path))


def _end_beside(path: str) -> str:
    """The end that the tokenizer_config.json beside a tokenizer.json names, if any."""
    config = path.removesuffix(FILE) + CONFIG
    if not path.endswith(FILE) or not os.path.exists(config):
        return ""
    try:
        return end_named(json.loads(_read(config)))
    except ValueError as error:
        raise UserError(f"--tokenizer: {config} is no JSON ({error})") from None


def end_named(facts: Any) -> str:
    """The end that the contents of a tokenizer_config.json name, if any."""
    named = facts.get("eos_token") if isinstance(facts, dict) else None
    named = named.get("content") if isinstance(named, dict) else named
    return named if isinstance(named, str) else ""


def gpt2(paths: str) -> Library:
    """From GPT-2's vocab.json and merges.txt, as Megatron takes them: "VOCAB,MERGES"."""
    vocabulary, _, merges = paths.partition(",")
    _one_thread()
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, pre_tokenizers

    files = {"vocab.json": _read(vocabulary), "merges.txt": _read(merges)}
    try:
        inner = Inner(models.BPE.from_file(vocabulary, merges))
    except Exception as error:
        raise UserError(f"--tokenizer gpt2:{vocabulary},{merges}: {error}") from None
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return Library("gpt2", inner, files)


def _one_thread() -> None:
    """The processes of --workers are the parallelism, unless somebody set it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--tokenizer: {path}: {error.strerror}") from None
