"""Functions that torch.compile leaves as they are written, and runs without torch's compiler.

    @uncompiled
    def exchange(x): …          # of a module or class, called by its name there
    keep_uncompiled()           # before anything is compiled

    AdamW = without_compiler(torch.optim.AdamW)

To import torch's compiler takes every rank a second, and torch's own decorators import it although
nothing is compiled: that of functions to be left alone at once, those of optimizers at their first
call. So the former are told to torch where something is compiled, and the latter are taken off.

As it is imported it makes a folder for compiled code in TMPDIR: an empty one that every run would
leave. Where others are about to import it (DeepSpeed at ZeRO stage 3, torch's checkpoint and its
counter of FLOPs), load_compiler comes first.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
_untold: list[tuple[str, str]] = []  # module and name there of functions that torch is not told of


def uncompiled(function: F) -> F:
    """`function`, which will be kept out of what torch.compile makes."""
    _untold.append((function.__module__, function.__qualname__))
    return function


def keep_uncompiled() -> None:
    """Tell torch of these functions: its compiler is needed from here on."""
    while _untold:
        module, path = _untold.pop()
        *owners, name = path.split(".")
        owner: Any = sys.modules[module]
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, name, torch.compiler.disable(getattr(owner, name)))


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """A class of optimizers, itself never compiled, whose use does not import torch's compiler."""
    torchs = {name: getattr(torch.optim.Optimizer, name) for name in DECORATED}
    bare = {n: inspect.unwrap(f) for n, f in torchs.items() if getattr(kind, n) is f}
    bare["step"] = torch.no_grad()(inspect.unwrap(kind.step))  # which is among what goes
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, **bare})


def load_compiler() -> None:
    """Import torch's compiler, which leaves no folder behind."""
    if "torch._dynamo" in sys.modules:
        return
    asked = os.environ.get(FOLDER)
    os.environ[FOLDER] = asked or tempfile.gettempdir()  # which is there
    try:
        import torch._dynamo  # noqa: F401
    finally:
        if not asked:
            del os.environ[FOLDER]
