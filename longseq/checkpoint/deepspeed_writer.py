"""DeepSpeed's checkpoint writer, made to say what it wrote and to fail on all ranks or on none.

DeepSpeed's own writer raises on the rank whose disk is full and leaves the others in a barrier
until its timeout. This one keeps the error until the ranks have met.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import checkpoint_engine as writers


def write(item: Any, path: Path) -> None:
    """torch.save that raises OSError where the file cannot be written, and leaves no part of it."""
    try:
        with path.open("wb") as file:  # not the path: torch's own file has no error numbers
            torch.save(item, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)  # gives the space back to the ranks still writing
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


class Recorder(writers.CheckpointEngine):  # type: ignore[misc]
    """Writes as DeepSpeed's default engine does, and remembers the files and the first error."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[Path] = []
        self.error: OSError | None = None

    def create(self, _info: writers.CheckpointCommitInfo) -> None:
        pass

    def commit(self, _info: writers.CheckpointCommitInfo) -> bool:
        return self.error is None

    def load(self, path: str, map_location: Any = None) -> Any:
        raise NotImplementedError("this engine only writes")

    def save(self, state_dict: Any, path: str) -> None:
        try:
            write(state_dict, Path(path))
            self.paths.append(Path(path))
        except OSError as error:
            self.error = self.error or error

    def raise_error(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error


@contextmanager
def recording(engine: Any) -> Iterator[Recorder]:
    """Let `engine` write its checkpoint through a Recorder."""
    usual = engine.checkpoint_engine
    recorder = Recorder()
    engine.checkpoint_engine = recorder
    try:
        yield recorder
    finally:
        engine.checkpoint_engine = usual
