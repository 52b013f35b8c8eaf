"""Functions that torch.compile leaves as they are written.

    exchange = uncompiled(exchange)

torch's compiler makes a folder for compiled code in TMPDIR when it is imported, although there is
none: an empty folder that every run would leave. The first code that is compiled makes it anyway.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def uncompiled(function: F) -> F:
    """`function`, kept out of what torch.compile makes."""
    asked = os.environ.get(FOLDER)
    os.environ[FOLDER] = asked or tempfile.gettempdir()  # which is there
    try:
        result: F = torch.compiler.disable(function)
    finally:
        if not asked:
            del os.environ[FOLDER]
    return result
