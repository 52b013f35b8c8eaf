"""Measure something.

python -m benchmarks --list             what there is
python -m benchmarks NAME [OPTIONS]     one of them
python -m benchmarks NAME --help        what it measures, against what, and its options
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from benchmarks.environment import tell_of_a_wrong_python

HERE = Path(__file__).parent
FOLDERS = ("speed", "memory", "data", "anchors")


def paths() -> dict[str, Path]:
    """Every benchmark's file by its name."""
    found = [path for folder in FOLDERS for path in sorted((HERE / folder).glob("[!_]*.py"))]
    return {path.stem: path for path in [*found, HERE / "readme.py"]}


def listing() -> str:
    """The names by folder, each with the first line of its docstring."""
    lines: list[str] = []
    for name, path in paths().items():
        folder = f"{path.parent.name}/" if path.parent != HERE else ""
        if not lines or folder not in lines:
            lines.append(folder)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:<18}{text.splitlines()[0]}")
    return "\n".join(lines)


def load(name: str) -> ModuleType:
    """The module of the benchmark `name`."""
    inner = paths()[name].relative_to(HERE.parent).with_suffix("")
    return importlib.import_module(".".join(inner.parts))


def parser_of(name: str) -> argparse.ArgumentParser:
    """The options of one benchmark."""
    module = load(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run what is asked for; 0 where `| head` has seen enough."""
    try:
        code = _main(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "--list"):
        print(listing() if argv == ["--list"] else f"{__doc__}\n{listing()}")
        return 0
    name, *words = argv
    if name not in paths():
        print(
            f"benchmarks: no benchmark {name!r}: see python -m benchmarks --list", file=sys.stderr
        )
        return 2
    figures = load(name).main(parser_of(name).parse_args(words))
    if figures:
        print(figures)
    return 0


if __name__ == "__main__":
    tell_of_a_wrong_python()
    sys.exit(main(sys.argv[1:]))
