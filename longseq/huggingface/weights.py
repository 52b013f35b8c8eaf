"""The tensors in a folder of transformers by name, whichever file they are in.

with ExitStack() as stack:
    weights = Weights(folder, stack)     # raises UserError where its files cannot be read
    weights.shape(name), weights.tensor(name)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longseq.data.sources.names import printable
from longseq.errors import UserError
from longseq.huggingface.families.choosing import DEQUANTIZE
from longseq.huggingface.families.moves import Move

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# What transformers makes anew and older files hold: masks, and the frequencies of rotary positions
COMPUTED = (
    *(".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"),
    ".rotary_emb.inv_freq",
)
HEADS = ("lm_head.weight", "embed_out.weight")  # the embedding once more where they are tied
NUMBERS = ("F64", "F32", "BF16", "F16")  # others are weights only with scales beside them


class Weights:
    """One tensor is read at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        places: Mapping[str, str] = {}
        if (folder / INDEX).exists():
            places = _places(folder / INDEX)
        elif not (folder / SINGLE).exists():
            raise UserError(
                f"{folder} has neither {SINGLE} nor {INDEX}: save it with safe_serialization"
            )
        self._files: dict[str, Any] = {}  # by the tensors in them
        try:
            for where in sorted(set(places.values()) or {SINGLE}):
                file = stack.enter_context(safe_open(str(folder / where), "pt"))
                here = file.keys()
                self._files |= {name: file for name in here if places.get(name, where) == where}
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder}: its weights cannot be read: {error}") from None

    @property
    def count(self) -> int:
        return len(self._files)

    def _own(self, name: str) -> str:
        """The name that a tensor has here: the Hub's gpt2, and what AutoModel saves, leave out the
        first part, which is the model without its head.
        """
        for own in (name, name.partition(".")[2]):
            if own in self._files:
                return own
        raise UserError(f"{self.folder} holds no tensor {name}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises UserError where there is no such tensor, or one that holds no weights as such."""
        own = self._own(name)
        found = self._files[own].get_slice(own)
        if (kind := found.get_dtype()) not in NUMBERS:
            raise UserError(
                f"{self.folder}: {name} is of {kind}, and weights are read of"
                f" {', '.join(NUMBERS)}: {DEQUANTIZE}"
            )
        return tuple(found.get_shape())

    def tensor(self, name: str) -> Tensor:
        """Whole, fp32."""
        own = self._own(name)
        found: Tensor = self._files[own].get_tensor(own)
        return found.float()

    def check_taken(self, moves: Sequence[Move]) -> None:
        """Raise UserError where tensors would stay behind: they are of another network than that of
        config.json. The first of the moves is that of the embedding.
        """
        table = moves[0].theirs[0]
        taken = {self._own(name) for move in moves for name in move.theirs}
        left = [n for n in self._files if n not in taken and not n.endswith(COMPUTED)]
        for head in (name for name in HEADS if name in left):
            if not torch.equal(self.tensor(head), self.tensor(table)):
                raise UserError(
                    f"{self.folder}: {head} is another table than {table}, and config.json makes"
                    " them one: set its tie_word_embeddings to false"
                )
            left.remove(head)
        if left:
            raise UserError(
                f"{self.folder} holds tensors that the network of config.json is without,"
                f" {shown(left, 2)}: correct config.json, or save the model without them"
            )


def _places(path: Path) -> Mapping[str, str]:
    """Tensors → the files that they are in, by the index beside them."""
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{path} has no weight_map of names")
    return places


def shown(names: Sequence[str], most: int) -> str:
    """The first of them, and how many others there are."""
    more = f" and {len(names) - most:,} others" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def read_json(path: Path) -> Any:
    """The object of a JSON file; raises UserError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: name a folder of transformers") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object")
    return found
