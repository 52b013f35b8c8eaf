"""What is said where a user's own Python is asked for what only the environment has.

tell_of_a_wrong_python()    # first, in what `python -m` starts: benchmarks, and tests
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]


def remedy(module: str) -> str:
    """A line for a Python that lacks `module`."""
    made = sorted(path.relative_to(ROOT) for path in ROOT.glob("venvs/*/*/bin/activate"))
    way = f"source {made[0]}" if made else "./install.sh makes an environment that has it"
    return f"longseq: {sys.executable} has no {module}: {way}"


def tell_of_a_wrong_python() -> None:
    """Of a module that is missing say the remedy and no traceback, where there is no torch."""
    if find_spec("torch") is not None:
        return

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            print(remedy(error.name), file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell
