"""The tensors in a folder of transformers by name, whichever file they are in.

with ExitStack() as stack:
    weights = Weights(folder, stack)     # raises UserError where its files cannot be read
    weights.shape(name), weights.tensor(name)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from longseq.errors import UserError
from longseq.huggingface.families.choosing import DEQUANTIZE

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
NUMBERS = ("F64", "F32", "BF16", "F16")  # others are weights only with scales beside them


class Weights:
    """One tensor is read at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        if (folder / INDEX).exists():
            self.places: Mapping[str, str] = _places(folder / INDEX)
        elif (folder / SINGLE).exists():
            self.places = {}
        else:
            raise UserError(
                f"{folder} has neither {SINGLE} nor {INDEX}: save it with safe_serialization"
            )
        try:
            self._files = {
                name: stack.enter_context(safe_open(str(folder / name), "pt"))
                for name in set(self.places.values()) or {SINGLE}
            }
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder}: its weights cannot be read: {error}") from None

    @property
    def count(self) -> int:
        return sum(len(file.keys()) for file in self._files.values())

    def _file(self, name: str) -> Any:
        try:
            file = self._files[self.places.get(name, SINGLE)]
            file.get_slice(name)
            return file
        except (KeyError, SafetensorError):
            raise UserError(f"{self.folder} holds no tensor {name}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises UserError where there is no such tensor, or one that holds no weights as such."""
        found = self._file(name).get_slice(name)
        if (kind := found.get_dtype()) not in NUMBERS:
            raise UserError(
                f"{self.folder}: {name} is of {kind}, and weights are read of"
                f" {', '.join(NUMBERS)}: {DEQUANTIZE}"
            )
        return tuple(found.get_shape())

    def tensor(self, name: str) -> Tensor:
        """Whole, fp32."""
        found: Tensor = self._file(name).get_tensor(name)
        return found.float()


def _places(path: Path) -> Mapping[str, str]:
    """Tensors → the files that they are in, by the index beside them."""
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{path} has no weight_map of names")
    return places


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
