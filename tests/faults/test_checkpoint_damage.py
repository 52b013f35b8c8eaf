"""Every file of a checkpoint damaged in turn, and a hostile pickle in the place of each."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.format.manifest import Damaged, describe, list_files, read_manifest
from longseq.checkpoint.state.load import load
from longseq.checkpoint.state.zero_state import engine_state
from longseq.errors import UserError
from longseq.parallel.mesh import Mesh
from tests.faults.small_engine import SmallEngine, load_newest, save_step

FILES = ("manifest.json", "vocabulary.json", "rank-00000.safetensors")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARM: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "missing": lambda path: path.unlink(),
    "emptied": lambda path: os.truncate(path, 0),
}


def save_two(folder: Path) -> Path:
    """step-1, all ones before their step, and step-2, all twos."""
    for step in (1, 2):
        engine = SmallEngine(step)
        engine.step()
        save_step(folder, engine, step)
    assert sorted(path.name for path in (folder / "step-2").iterdir()) == sorted(FILES)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return save_two(tmp_path)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_and_the_one_before_used(two: Path, name: str, harm: str) -> None:
    HARM[harm](two / "step-2" / name)
    said: list[str] = []
    path, _ = find_latest(two, said.append)
    assert path.name == "step-1"
    assert len(said) == 1
    assert f"{two / 'step-2'} is damaged: {name}" in said[0]


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_with_good_hashes_is_not_run(two: Path, tmp_path: Path, name: str) -> None:
    """An attacker writes the manifest too: nothing may depend on its hashes."""
    mark, path = tmp_path / "run", two / "step-2"
    (path / name).write_bytes(pickle.dumps(Hostile(mark)))
    if name != "manifest.json":
        manifest = read_manifest(path)
        files = {file: describe(path / file) for file in list_files(path)}
        replace(manifest, files=files).write(path)
    engine = SmallEngine(0.0)
    found, manifest = find_latest(two, lambda _: None)
    with contextlib.suppress(Damaged):
        load(engine_state(engine, Mesh.single()), found, manifest, 0, same_layout=True)
    assert not mark.exists()
    pickle.loads((path / name).read_bytes())  # the failsafe: it does act where it is unpickled
    assert mark.exists()


def test_a_tensor_of_another_shape_or_none(two: Path) -> None:
    with pytest.raises(Damaged, match=r"weight/0.weight has shape \(3, 4\) and this network has"):
        load_newest(two, SmallEngine(0.0, width=5))
    manifest = read_manifest(two / "step-2")
    tensors = {k: v for k, v in manifest.tensors.items() if k != "exp_avg/1.bias"}
    state = engine_state(SmallEngine(0.0), Mesh.single())
    with pytest.raises(Damaged, match=r"exp_avg/1\.bias is not in it"):
        load(state, two / "step-2", replace(manifest, tensors=tensors), 0, same_layout=False)


def test_no_whole_one_is_left(two: Path) -> None:
    for step in (1, 2):
        flip(two / f"step-{step}" / FILES[2])
    with pytest.raises(UserError, match="no whole checkpoint is left to go on from"):
        find_latest(two, lambda _: None)


def test_one_that_holds_no_numbers_is_not_gone_on_from(tmp_path: Path) -> None:
    """Its hashes are good: whoever wrote it wrote that."""
    saved = save_step(tmp_path, SmallEngine(1.0), 2).path
    file = saved / "rank-00000.safetensors"
    one, nan = struct.pack("<f", 1.0), struct.pack("<f", float("nan"))
    assert one in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(one, nan, 1))
    files = {name: describe(saved / name) for name in list_files(saved)}
    replace(read_manifest(saved), files=files).write(saved)
    with pytest.raises(Damaged, match=r"weight/\S+ is not finite"):
        load_newest(tmp_path, SmallEngine(0.0))
