"""The house is as its faces and CONTRIBUTING.md say: quick, nothing of it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import CONTRIBUTING, ROOT, face, inside, named, packages, with_map

PACKAGES = [package for top in ("longseq", "benchmarks") for package in packages(ROOT / top)]
SOURCES = [
    *(path for package in PACKAGES for path in package.glob("*.py")),
    ROOT / "pretrain_gpt.py",
]

DURABLE = ROOT / "longseq" / "host" / "atomic_files.py"
ELSEWHERE = {
    # a number from a name: no digest of anything that is kept
    ROOT / "longseq" / "engine" / "network" / "initialize.py": {"hashlib"},
    # git's hash of what is in a folder
    ROOT / "longseq" / "upstream" / "checkout.py": {"hashlib"},
    # of what goes over a connection, not of a file
    ROOT / "longseq" / "host" / "broadcast.py": {"hashlib"},
}


def room(package: Path) -> str:
    return str(package.relative_to(ROOT))


def test_every_folder_with_python_has_a_face() -> None:
    for top in ("longseq", "benchmarks"):
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        assert folders == {package for package in PACKAGES if room(package).startswith(top)}


@pytest.mark.parametrize("package", PACKAGES, ids=room)
def test_a_face_names_what_is_inside(package: Path) -> None:
    text = face(package)
    assert [name for name in inside(package) if named(text, name) < 0] == []
    # and nothing that is gone: `name, name   what they are` at a line's beginning
    rows = re.findall(r"^([\w/]+(?:, [\w/]+)*) {2,}\S", text, re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} <= set(inside(package))


@pytest.mark.parametrize("package", PACKAGES, ids=room)
def test_a_room_holds_a_dozen_modules_at_most(package: Path) -> None:
    assert len([name for name in inside(package) if not name.endswith("/")]) <= 12


def test_the_map_is_the_tree() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert text == with_map(text), "write it anew: python -m tests.house"


def durable(tree: ast.AST) -> Iterator[str]:
    """What of fsync, rename and hashlib a module uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from {"hashlib", "fsync", "rename", "move"}.intersection(names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, plain = node.func.attr, len(node.args) == 1 and not node.keywords
            on_os = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
            if method in ("fsync", "fdatasync", "rename", "renames"):
                yield method
            elif method in ("replace", "move") and (on_os or (method == "replace" and plain)):
                yield method  # a text's replace has two arguments


def test_files_are_made_durable_in_one_place() -> None:
    found = {path: set(durable(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}
    assert found.pop(DURABLE) >= {"fsync", "rename", "replace", "hashlib"}
    assert {path: names for path, names in found.items() if names} == ELSEWHERE


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import os\nos.fsync(3)", {"fsync"}),
        ("from hashlib import sha256", {"hashlib"}),
        ("path.replace(other)", {"replace"}),
        ("import shutil\nshutil.move(a, b)", {"move"}),
        ("text.replace('a', 'b'); replace(manifest, step=1); net.replace(heads=2)", set()),
    ],
)
def test_the_search_sees(source: str, names: set[str]) -> None:
    assert set(durable(ast.parse(source))) == names
