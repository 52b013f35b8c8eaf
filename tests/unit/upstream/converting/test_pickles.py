"""Files that were made to harm."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.errors import UserError
from longseq.upstream.converting.pickles import read_file


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["HARM"],)


def test_a_file_that_was_made_to_harm_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harmed"))
    torch.save({"module": {"a": torch.arange(3)}, "x": Harm(), "y": [Harm()]}, tmp_path / "f.pt")
    assert read_file(tmp_path / "f.pt")["module"]["a"].tolist() == [0, 1, 2]
    assert not (tmp_path / "harmed").exists()


def test_nor_does_one_that_is_no_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch before 1.6 wrote is read another way, and a bare pickle is taken for it."""
    monkeypatch.setenv("HARM", str(tmp_path / "harmed"))
    with (tmp_path / "bare.pt").open("wb") as file:
        pickle.dump(Harm(), file)
    with pytest.raises(UserError, match=r"bare\.pt cannot be read"):
        read_file(tmp_path / "bare.pt")
    old = {"module": {"a": torch.arange(3)}, "x": Harm()}
    torch.save(old, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_file(tmp_path / "old.pt")["module"]["a"].tolist() == [0, 1, 2]
    assert not (tmp_path / "harmed").exists()


class Program(torch.nn.Module):
    """Writes its tensor to where it says when it is loaded."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.x, self.place = torch.zeros(1), place

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str, bool]:
        return self.x, self.place, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]) -> None:
        self.x, self.place, self.training = state
        torch.save(self.x, self.place)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_nor_does_a_program(tmp_path: Path) -> None:
    """torch.load hands such a file to another reader, which runs it, whatever unpickler it has."""
    harmed = tmp_path / "harmed"
    torch.jit.script(Program(str(harmed))).save(tmp_path / "f.pt")
    torch.jit.load(tmp_path / "f.pt")
    harmed.unlink()  # so it does harm
    with pytest.raises(UserError, match=r"f\.pt is a program \(TorchScript\), which is not run"):
        read_file(tmp_path / "f.pt")
    assert not harmed.exists()


def test_what_is_no_file_of_a_checkpoint_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "f.pt").write_bytes(b"\x80")
    with pytest.raises(UserError, match=r"f\.pt cannot be read"):
        read_file(tmp_path / "f.pt")
    torch.save(Harm, tmp_path / "f.pt")  # in the place of which is a dictionary of no class of ours
    with pytest.raises(UserError, match=r"f\.pt is no file of a checkpoint"):
        read_file(tmp_path / "f.pt")
    with pytest.raises(UserError, match=r"none\.pt cannot be read"):
        read_file(tmp_path / "none.pt")
