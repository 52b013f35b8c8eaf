"""What a host says of itself."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from longseq.doctor import probe
from tests.faults.chain_events import fill
from tests.launch.cluster import small_disk, why_not


def test_data_are_tried(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    (tmp_path / "empty.bin").touch()
    assert probe.unreadable(str(tmp_path / "x.fa")) == ""
    assert "empty.bin is empty" in probe.unreadable(str(tmp_path / "empty"))
    assert "No such file" in probe.unreadable(str(tmp_path / "nothing"))


def test_tmpdir_itself_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be made in it, Python goes to another folder without a word."""
    for asked, writable in (("/proc", False), (str(tmp_path), True), (str(tmp_path / "x"), True)):
        monkeypatch.setenv("TMPDIR", asked)
        monkeypatch.setattr(tempfile, "tempdir", None)  # what it found before
        free = probe.host_report("", str(tmp_path))["scratch_gib"]
        assert (free is not None) == writable, asked


def test_a_full_tmpdir_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not():
        pytest.skip(reason)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with small_disk(tmp_path, "64k"):
        fill(tmp_path)
        assert probe.host_report("", "/dev/null")["scratch_gib"] == 0.0


@pytest.mark.parametrize(("local", "reports"), [("0", 1), ("1", 0)])
def test_a_hosts_first_rank_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str, reports: int
) -> None:
    """And each of them must import torch, a lone one on a CPU too."""
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    for name, value in (("RANK", "4"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", local)):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LONGSEQ_EXPECTED_HOST", raising=False)
    assert probe.probe(tmp_path, "cpu", "", str(tmp_path)) == 1
    assert "cannot_import" in json.loads((tmp_path / "net-4.json").read_text())
    found = list(tmp_path.glob("report-*.json"))
    assert len(found) == reports
    for path in found:
        report = json.loads(path.read_text())
        assert report["output_gib"] > 0
        assert report["versions"]["torch"]


def test_an_import_that_fails_is_said_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert probe.probe(tmp_path, "cpu", "", str(tmp_path)) == 1
    found = json.loads((tmp_path / "net-0.json").read_text())
    assert found.keys() == {"host", "cannot_import"}
    assert found["cannot_import"].startswith("ModuleNotFoundError: import of torch.distributed")
