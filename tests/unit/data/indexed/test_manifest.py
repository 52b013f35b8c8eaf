"""A manifest that somebody has edited: one line that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_helpers import make

from longseq.data.indexed.manifest import read_manifest
from longseq.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", []),
        ("files", {"bin": 3}),
        ("files", {"bin": {"bytes": "3", "sha256": ""}}),
        ("files", {"bin": {"bytes": 3}}),
        ("num_tokens", "9"),
        ("vocab_size", None),
        ("counts", {"bases": [1]}),
        ("options", [1]),
        ("sources", {}),
        ("skipped", [["x.fa", "bad"]]),
        ("weights", ["1"]),
    ],
)
def test_a_field_of_another_type(tmp_path: Path, field: str, value: Any) -> None:
    prefix, manifest = make(tmp_path, ">a\nACGT\n")
    assert read_manifest(prefix) == manifest
    path = Path(f"{prefix}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match=rf"out\.json: {field} is not what it was written as"):
        read_manifest(prefix)


@pytest.mark.parametrize("text", ["", "[" * 200_000, "[]", '{"format": 2}', '{"format": 9}'])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json .*prepare the data again"):
        read_manifest(str(tmp_path / "x"))
