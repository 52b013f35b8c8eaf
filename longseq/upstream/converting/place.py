"""Which of its checkpoints is meant: the newest of a folder, or the one that is named.

folder = step_of(Path("outputs/RUN/checkpoints"))               # …/global_step7, by `latest`
folder = step_of(Path("outputs/RUN/checkpoints/global_step4"))
"""

from __future__ import annotations

import re
from pathlib import Path

from longseq.checkpoint.format.folder import POINTER, is_theirs
from longseq.errors import UserError

FIRST = "mp_rank_00_model_states.pt"


def step_of(source: Path) -> Path:
    """The folder of one checkpoint; raises UserError, which names those that there are."""
    if _is_step(source):
        return source
    steps = _steps(source)
    if not (steps or is_theirs(source)):
        raise UserError(
            f"{source}: no checkpoint of Megatron-DeepSpeed is in it: no {FIRST}, and no"
            " folders with one"
        )
    names = ", ".join(path.name for path in steps)
    give = f"steps there: {names}; give one, as {steps[-1]}" if steps else "no step is there"
    pointer = source / POINTER
    try:
        tag = pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(
            f"{pointer}, which names its newest checkpoint, cannot be read: {why}: {give}"
        ) from None
    name = Path(tag.replace("\0", "")).name
    name = "" if name == ".." else name
    found = source / name
    if name and _is_step(found):
        return found
    lacks = f"has no {FIRST}" if name and found.is_dir() else "is not there"
    raise UserError(f"{pointer} names {tag!r} as its newest checkpoint, which {lacks}: {give}")


def _is_step(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob(f"*{FIRST}"))  # at stage 3 it begins otherwise


def _steps(source: Path) -> list[Path]:
    """Folders of checkpoints, oldest first."""
    found = [path for path in source.iterdir() if _is_step(path)] if source.is_dir() else []
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
