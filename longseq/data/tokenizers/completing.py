"""What a tokenizer.json may leave out, put in: a token for words that have none, and how tokens are
written side by side.

    encoder, unknown = never_failing(inner, vocab_size)
    complete_decoder(inner, encoder, unknown, "--tokenizer huggingface")
"""

import json
from itertools import pairwise
from typing import Any

from longseq.errors import UserError


def never_failing(inner: Any, vocab_size: int) -> tuple[Any, int | None]:
    """What encodes as `inner` does, and the id of what it has no token for; None where it has none.

    A model that names an unknown token which its vocabulary does not have is an exception at the
    first such word; in a copy that word is `vocab_size`.
    """
    name = getattr(inner.model, "unk_token", None)
    if name is None:
        return inner, None
    if (found := inner.model.token_to_id(name)) is not None:
        return inner, found
    facts = json.loads(inner.to_str())
    # Added tokens as well: the library numbers those anew that the model does not have
    facts["model"]["vocab"] = {**inner.get_vocab(), "": vocab_size}
    facts["model"]["unk_token"] = ""
    return type(inner).from_str(json.dumps(facts)), vocab_size


def complete_decoder(inner: Any, encoder: Any, unknown: int | None, flag: str) -> None:
    """Without a decoder the library writes a blank between any two tokens. Write none where a word
    may be of several; UserError where that does not give the word back.
    """
    if inner.decoder is not None:
        return
    word = _of_several(inner, encoder, unknown)
    if not word and inner.pre_tokenizer is not None:
        return
    from tokenizers import decoders

    inner.decoder = decoders.Fuse()

    def back(text: str) -> str:
        ids = encoder.encode(text, add_special_tokens=False).ids
        return str(inner.decode(ids, skip_special_tokens=False))

    once = back(word)  # perhaps as a normalizer has it
    if back(once) != once:
        raise UserError(
            f"{flag}: its file has no decoder, and the tokens of {word} read {once}: give it one"
            " that gives back what was encoded"
        )


def _of_several(inner: Any, encoder: Any, unknown: int | None) -> str:
    """A word of several tokens, none of them unknown; "" where there seems to be none."""
    names = sorted(inner.get_vocab().items(), key=lambda item: item[1])
    for name in (name for name, _ in names if name.isalnum()):
        encoding = encoder.encode(name * 2, add_special_tokens=False)
        beside = any(one[1] == other[0] for one, other in pairwise(encoding.offsets))
        if beside and unknown not in encoding.ids:
            return str(name * 2)
    return ""
