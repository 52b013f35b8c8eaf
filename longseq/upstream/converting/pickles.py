"""Files of torch.save, without running what is in them.

    read_file(path)["module"]

Of their classes only those of plain tensors are made, so that a file that was made to harm does
not.
"""

from __future__ import annotations

import pickle
import types
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch

from longseq.errors import UserError
from longseq.host.atomic_files import reason


class _Nothing(dict[Any, Any]):
    """In the place of an object of any other class; keeps nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """It has none."""

    def append(self, item: Any) -> None:
        """It keeps none."""

    def extend(self, items: Any) -> None:
        """It keeps none."""


class _Careful(pickle.Unpickler):
    """Makes tensors, plain containers and argparse's Namespace, and _Nothing of all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("argparse", "Namespace"):
            return Namespace
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _Nothing


def _load(file: IO[bytes], **how: Any) -> Any:
    """pickle.load, as torch calls it for a file that is no zip."""
    return _Careful(file, **how).load()


def read_file(path: Path) -> dict[str, Any]:
    """One of its files; raises UserError where it is damaged."""
    module = types.SimpleNamespace(Unpickler=_Careful, load=_load, __name__="careful")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    try:
        if _is_program(path):
            raise UserError(f"{path} is a program (TorchScript), which is not run: {_OTHER}")
        found = torch.load(path, "cpu", pickle_module=module, weights_only=False)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        lines = str(error).strip().splitlines() or [""]  # torch adds where in its C++ it was
        raise UserError(
            f"{path} cannot be read, as if cut short or damaged: {type(error).__name__}: {lines[0]}"
        ) from None
    if type(found) not in (dict, OrderedDict):
        raise UserError(f"{path} is no file of a checkpoint of Megatron-DeepSpeed")
    return found


_OTHER = "Megatron-DeepSpeed saves none, so this file is from somewhere else"


def _is_program(path: Path) -> bool:
    """Would torch.load run it, whatever unpickler it is given? Asked of torch's own reader: to one
    that understands zips otherwise a file could show other names.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
        file.seek(0)
        names = torch._C.PyTorchFileReader(file).get_all_records()
    return any(name == "constants.pkl" or name.startswith("code/") for name in names)
