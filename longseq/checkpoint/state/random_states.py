"""The random generators of a process, in types that JSON holds.

They matter to a run that goes on with the same ranks: dropout and the order of the data draw from
none of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import device


def random_states(computes: device) -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators; CUDA's where it `computes`."""
    import numpy as np
    import torch

    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, *rest = numpy_state
    cuda = torch.cuda.get_rng_state().tolist() if computes.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
        "cuda": cuda and bytes(cuda).hex(),
    }


def restore_random_states(states: Mapping[str, Any], computes: device) -> None:
    """Put back what `random_states` gave."""
    import numpy as np
    import torch

    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(_bytes(states["torch"]))
    if states["cuda"] is not None and computes.type == "cuda":
        torch.cuda.set_rng_state(_bytes(states["cuda"]))


def _bytes(text: str) -> Any:
    import torch

    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
