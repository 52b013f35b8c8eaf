"""What docs/plan.md and its picture say of 2023's runs is what is planned for them now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("lengths", ROOT / "docs/pictures/lengths.py")
assert SPEC is not None
assert SPEC.loader is not None
lengths = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lengths)


def test_the_longest_sequences() -> None:
    networks, rows = {}, []
    for name, layers in lengths.NETWORKS.items():
        networks[name], some, _ = lengths.lines_of(name, layers)
        rows += some
    assert lengths.stale(rows, networks) == []


def test_the_speeds() -> None:
    """Of three columns, as all eight take long (`python docs/pictures/lengths.py --check`)."""
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8").splitlines()
    chosen = (2, 8, 128)
    for row in lengths.speed_rows(tuple(n * lengths.K for n in chosen)):
        name, *now = (cell.strip() for cell in row.strip("| ").split(" | "))
        (said,) = (line for line in page if line.startswith(f"| {name} |"))
        cells = said.strip("| ").split(" | ")[1:]
        at = [lengths.LENGTHS.index(n * lengths.K) for n in chosen]
        assert [cells[k].strip() for k in at] == now, name
