"""What a storage is, and which line is at work: both as the stack of calls says.

kind_now("backward")      # index into KINDS of what would be made now
line_now()                # longseq/model/layers.py:60 forward
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from types import FrameType

KINDS = (
    "weights",
    "gathered weights",
    "gradients",
    "optimizer",
    "kept activations",
    "layer at work",
    "logits",
    "collective buffers",
    "batch",
)
WORK, KEPT = KINDS.index("layer at work"), KINDS.index("kept activations")
HOST = len(KINDS)  # on a GPU's host: counted, but not in the peak

# Who makes a storage → its kind: the innermost of these files on the stack decides. ENGINE is what
# the engine makes, else a kind.
ENGINE = "engine"
MAKERS = (
    ("longseq/model/loss.py", "logits"),
    ("longseq/parallel/collectives.py", "collective buffers"),
    ("longseq/model/", "layer at work"),
    ("longseq/attention/", "layer at work"),
    ("longseq/memory/", "layer at work"),
    ("longseq/parallel/", "layer at work"),
    ("torch/autograd/graph.py", "layer at work"),  # backward of an operation; hooks lie within
    ("deepspeed/runtime/zero/partition_parameters.py", "gathered weights"),
    ("deepspeed/runtime/", ENGINE),
    ("longseq/engine/stage0.py", ENGINE),
)
PHASES = {  # kind of what nobody above has made
    "build": "optimizer",
    "batch": "batch",
    "forward": "layer at work",
    "head": "layer at work",
    "backward": "layer at work",
    "update": "optimizer",
}
OF_ENGINE = {"backward": "gradients", "forward": "gathered weights"}  # where it differs


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def kind_now(phase: str) -> int:
    """The kind of what is made now."""
    maker = next(filter(None, (_maker(f.f_code.co_filename) for f in _frames())), "")
    if maker == ENGINE:
        maker = OF_ENGINE.get(phase, "")
    if phase in ("build", "update"):
        maker = ""
    return KINDS.index(maker or PHASES[phase])


@cache
def _maker(path: str) -> str:
    """What MAKERS says of a file; empty where it says nothing."""
    return next((kind for part, kind in MAKERS if part in path), "")


def line_now() -> str:
    """The innermost line of ours, this package left out: `longseq/model/layers.py:60 forward`."""
    for frame in _frames():
        _, ours, path = frame.f_code.co_filename.rpartition("/longseq/")
        if ours and not path.startswith("planning/"):
            return f"longseq/{path}:{frame.f_lineno} {frame.f_code.co_name}"
    return ""
