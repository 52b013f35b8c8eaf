"""The map of the house in CONTRIBUTING.md, made from what its packages say of themselves.

python -m tests.house      writes it there anew; a test holds it to the tree (test_house.py)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- map: python -m tests.house -->\n", "<!-- end of the map -->\n"


def face(package: Path) -> str:
    """The docstring of a package."""
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""


def inside(package: Path) -> list[str]:
    """Names of its modules, and of its packages with a slash behind them."""
    modules = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    packages = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    return sorted(modules + packages)


def named(text: str, name: str) -> int:
    """Where a face names a module or package; -1: nowhere."""
    found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)
    return found.start() if found else -1


def packages(top: Path) -> Iterator[Path]:
    """`top` and the packages in it, in the order in which their faces name them."""
    yield top
    text = face(top)
    rooms = [name for name in inside(top) if name.endswith("/")]
    for name in sorted(rooms, key=lambda name: named(text, name)):
        yield from packages(top / name)


def house_map() -> str:
    """A row for each package: its folder, and the first sentences of its face."""
    rows = ["| folder | what it is |", "|---|---|"]
    for top in ("longseq", "benchmarks"):
        for package in packages(ROOT / top):
            line = face(package).partition("\n")[0]
            line = line.rpartition(". ")[0] if line.endswith(":") else line.rstrip(".")
            rows.append(f"| `{package.relative_to(ROOT)}/` | {line} |")
    return "\n".join(rows) + "\n"


def with_map(text: str) -> str:
    """CONTRIBUTING.md's text with the map as the tree has it now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + house_map() + END + rest.partition(END)[2]


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_map(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
