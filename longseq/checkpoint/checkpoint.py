"""Checkpoints that are whole or not there.

    checkpoints/
      latest            "step-200", replaced, never rewritten
      step-100/         manifest.json, vocabulary.json (the tokenizer), state/ (DeepSpeed's files),
                        ranks/ (one small file a rank)
      step-200/
      step-300.tmp/     being written, or left by a killed run: removed by the next save

A checkpoint is written aside, flushed, described by its manifest and only then renamed. On load
the manifest is checked before anything is unpickled. Every function here is called by all ranks
together.
"""

import random
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longseq.checkpoint.manifest import (
    NAME,
    Damaged,
    Entry,
    Manifest,
    check_files,
    check_names,
    describe,
    list_files,
    read_manifest,
)
from longseq.errors import UserError
from longseq.host.atomic_files import NO_ROOM, reason, replace_file, sync
from longseq.parallel.agreement import Ranks

POINTER = "latest"
STATE = "state"  # DeepSpeed's tag: its files lie in step-N/state
STEP = re.compile(r"step-(\d+)\Z")

T = TypeVar("T")


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was just written."""

    path: Path
    bytes: int


def save(
    engine: Any,
    folder: Path,
    step: int,
    *,
    client_state: Mapping[str, Any],
    layout: Mapping[str, Any],
    versions: Mapping[str, str],
    ranks: Ranks,
    beside: Callable[[Path], None] | None = None,
) -> Saved:
    """Write `folder/step-N` from a DeepSpeed engine and point `latest` to it.

    `client_state` (numbers, strings, lists, tensors) is kept for each rank, with its random
    states; `beside` is called once, to write further files into the checkpoint. Raises UserError
    on every rank when any could not write; earlier checkpoints are untouched then.
    """
    final = folder / f"step-{step}"
    aside = folder / f"step-{step}.tmp"
    _together(ranks, aside, lambda: _prepare(folder, aside, ranks))
    files = _joined(_together(ranks, aside, lambda: _write(engine, aside, client_state, ranks)))

    def finish() -> None:
        if ranks.rank == 0:
            if beside:
                beside(aside)
            _finish(folder, aside, final, Manifest(step, layout, versions, _complete(aside, files)))

    _together(ranks, aside, finish)
    return Saved(final, sum(entry.size for entry in files.values()))


def _together(ranks: Ranks, aside: Path, act: Callable[[], T]) -> list[T]:
    """What `act` gives on each rank; if it fails on one with an OSError, all raise a UserError."""
    result, problem = None, None
    try:
        result = act()
    except OSError as error:
        problem = reason(error) + (f": {error.filename}" if error.filename else "")
        if error.errno in NO_ROOM:
            problem += "; free some, or choose another folder with --save"
    outcomes = ranks.gather((result, problem))
    problem = next((text for _, text in outcomes if text), None)
    if problem:
        if ranks.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"checkpoint {aside.with_suffix('')} cannot be written: {problem}")
    return [result for result, _ in outcomes]


def _joined(parts: list[dict[str, Entry]]) -> dict[str, Entry]:
    """All ranks' files; no two ranks may write the same one."""
    files: dict[str, Entry] = {}
    for part in parts:
        if twice := files.keys() & part.keys():
            raise RuntimeError(f"two ranks wrote the same files of a checkpoint: {sorted(twice)}")
        files.update(part)
    return files


def _prepare(folder: Path, aside: Path, ranks: Ranks) -> None:
    if ranks.rank != 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    _clean(folder)
    (aside / STATE).mkdir(parents=True)
    (aside / "ranks").mkdir()


def _clean(folder: Path) -> None:
    """Remove what killed runs left in the middle of a save."""
    for leftover in folder.glob("step-*.tmp"):
        shutil.rmtree(leftover)
    for leftover in folder.glob(f".{POINTER}.*.tmp"):
        leftover.unlink()
    for leftover in folder.glob("step-*.replaced"):
        if leftover.with_suffix("").exists():
            shutil.rmtree(leftover)


def _write(
    engine: Any, aside: Path, client_state: Mapping[str, Any], ranks: Ranks
) -> dict[str, Entry]:
    """This rank's files, flushed; their sizes and hashes by name relative to `aside`."""
    from longseq.checkpoint.deepspeed_writer import recording, write
    from longseq.checkpoint.nvme_state import own_state, save_groups

    with recording(engine) as recorder, own_state(engine) as in_files:
        engine.save_checkpoint(str(aside), tag=STATE, save_latest=False)
        if in_files:
            save_groups(engine, aside / STATE, recorder.save)
    recorder.raise_error()
    own = aside / "ranks" / f"rank-{ranks.rank}.pt"
    write({"client_state": dict(client_state), "random": random_states()}, own)
    paths = [*recorder.paths, own]
    return {path.relative_to(aside).as_posix(): describe(path) for path in paths}


def _complete(aside: Path, files: Mapping[str, Entry]) -> dict[str, Entry]:
    """All files, with those that DeepSpeed wrote past the recorder; all ranks' must be visible
    here.
    """
    found = set(list_files(aside))
    for name in files.keys() - found:
        raise OSError(
            None, "rank 0 does not see another rank's file: the folder must be shared", name
        )
    for name in found - files.keys():
        sync(aside / name)
    return {name: files.get(name) or describe(aside / name) for name in sorted(found)}


def _finish(folder: Path, aside: Path, final: Path, manifest: Manifest) -> None:
    manifest.write(aside)
    for inner in [path for path in aside.rglob("*") if path.is_dir()]:
        sync(inner)
    sync(aside)
    replaced = final.with_name(final.name + ".replaced")
    if final.exists():  # a damaged one, or a step that is run again
        final.rename(replaced)
    aside.rename(final)
    sync(folder)
    replace_file(folder / POINTER, final.name + "\n")
    shutil.rmtree(replaced, ignore_errors=True)


def find_latest(folder: Path, ranks: Ranks, warn: Callable[[str], None]) -> Path:
    """The newest checkpoint in `folder` that is whole (or `folder` itself, if it is one).

    The pointer says which is the newest; damaged ones are named through `warn` on rank 0 and the
    one before is tried. All ranks share the reading. Raises UserError where there is none.
    """
    candidates: list[Path]
    candidates, problem = ranks.gather(_candidates(folder) if ranks.rank == 0 else None)[0]
    for path in candidates:
        damage = verify(path, ranks)
        if damage is None:
            return path
        problem = f"checkpoint {path} is damaged: {damage}"
        if ranks.rank == 0:
            warn(problem)
    raise UserError(f"--load {folder}: {problem}; no whole checkpoint is left to go on from")


def _candidates(folder: Path) -> tuple[list[Path], str]:
    """Checkpoints in the order to try, and why there are none."""
    if (folder / NAME).exists():
        return [folder], ""
    if not folder.is_dir():
        return [], "no such folder"
    steps = _steps(folder)
    newest = _pointed(folder)
    if newest is None:
        newest = max(steps, default=0)
    before = sorted((step for step in steps if step <= newest), reverse=True)
    after = sorted(step for step in steps if step > newest)
    return [steps[step] for step in before + after], "it holds no checkpoint"


def _steps(folder: Path) -> dict[int, Path]:
    """Folders of checkpoints by step; one being replaced counts while the new one is not there."""
    steps: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):  # step-2 comes before step-2.replaced
        if (match := STEP.match(path.name.removesuffix(".replaced"))) and path.is_dir():
            steps.setdefault(int(match[1]), path)
    return steps


def _pointed(folder: Path) -> int | None:
    try:
        match = STEP.match((folder / POINTER).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    return int(match[1]) if match else None


def verify(path: Path, ranks: Ranks) -> str | None:
    """What is wrong with a checkpoint, or None; the ranks share the files between them."""
    problem = None
    try:
        manifest = read_manifest(path)
        if ranks.rank == 0:
            check_names(path, manifest)
        check_files(path, manifest, sorted(manifest.files)[ranks.rank :: ranks.size])
    except Damaged as damage:
        problem = str(damage)
    return next((text for text in ranks.gather(problem) if text), None)


def load(engine: Any, path: Path, *, layout: Mapping[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Put a verified checkpoint into the engine; gives back this rank's client state.

    Raises UserError where it was written with another layout.
    """
    import torch

    from longseq.checkpoint.nvme_state import load_groups, own_state

    manifest = read_manifest(path)
    _same_layout(path, manifest.layout, layout)
    with own_state(engine) as in_files:
        loaded, _ = engine.load_checkpoint(str(path), tag=STATE)
    if loaded is None:
        raise RuntimeError(f"DeepSpeed found nothing to load in {path / STATE}")
    if in_files:
        load_groups(engine, path / STATE)
    # A run on more ranks than the one before: the further ones take what an earlier rank left
    number = ranks.rank % len(list((path / "ranks").iterdir()))
    own = torch.load(path / "ranks" / f"rank-{number}.pt", map_location="cpu", weights_only=True)
    restore_random_states(own["random"])
    client_state: dict[str, Any] = own["client_state"]
    return client_state


def _same_layout(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if differing:
        then = ", ".join(f"{key}={theirs.get(key)}" for key in differing)
        now = ", ".join(f"{key}={ours.get(key)}" for key in differing)
        raise UserError(
            f"checkpoint {path} was written with {then}; this run has {now}: use the same layout"
        )


def random_states() -> dict[str, Any]:
    """The random generators of this process, in types that torch.load reads without unpickling
    code.
    """
    import numpy as np
    import torch

    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` gave."""
    import numpy as np
    import torch

    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
