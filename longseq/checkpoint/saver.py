"""Saves beside the training: the step waits until the numbers are copied, a thread does the rest.

    saver = Saver(folder, claim, ranks)
    saver.reserve(size, wanted)             # memory for the copy, where the host has it
    saver.save(state, manifest, beside)     # waits for the save before; then for the copy only
    done = saver.advance()                  # once a step: a Saved when one has just been finished
    done = saver.finish()                   # waits for what is under way

Each rank writes its file in a thread. When all have, rank 0 makes them a checkpoint in a thread
too: manifest, rename, the pointer to the newest. The ranks agree between two steps, in their main
threads. Raises NoRoom (the disk is full: try again later), NotFinite, NotSaved, Gone (the folder
is) on every rank; the checkpoints before are untouched then. Memory for the copy is kept and used
again; where there is not enough, the step waits for the whole save.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.checkpoint.format import folder as folders
from longseq.checkpoint.format.manifest import Entry, Manifest, describe, list_files
from longseq.checkpoint.owner import Claim, Lost
from longseq.checkpoint.state.engine_state import EngineState
from longseq.checkpoint.state.random_states import random_states
from longseq.checkpoint.state.share import NotFinite, Share, file_name
from longseq.errors import EXIT_FAILED, Gone, UserError
from longseq.host.atomic_files import NO_ROOM, gone, reason, sync
from longseq.host.host_memory import available_bytes, own_limit_bytes
from longseq.parallel.agreement import Ranks
from longseq.reports.format import lacking

logger = logging.getLogger("longseq")
SPARE = 2  # free host memory, in copies, that a copy asks for


class NotSaved(UserError):
    """A checkpoint could not be written; those before are as they were: one line, and a failure."""

    exit_code = EXIT_FAILED


class NoRoom(NotSaved):
    """The disk is full, or the quota is reached."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written: all ranks' bytes, the seconds of it all, and those waited."""

    path: Path
    step: int
    bytes: int
    seconds: float
    waited: float


def _begin(act: Callable[[], Any]) -> Future[Any]:
    """Run `act` in a thread; where none is to be had (ulimit -u, -v) here, and the step waits."""
    work: Future[Any] = Future()

    def run() -> None:
        try:
            work.set_result(act())
        except Exception as error:
            work.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        run()
    return work


@dataclass
class _UnderWay:
    """A save that is not finished."""

    step: int
    manifest: Manifest
    share: Share
    beside: Callable[[Path], None] | None
    began: float
    work: Future[Any]
    waited: float = 0.0
    files: dict[str, Entry] | None = None  # of all ranks, once all have written


class Saver:
    """Writes a run's checkpoints into `folder`, one at a time."""

    def __init__(
        self,
        folder: Path,
        claim: Claim | None,
        ranks: Ranks,
        keep: tuple[int, int] = (0, 0),
        beside_training: bool = True,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        """claim: rank 0's hold on the folder. keep: the last so many, and each so-manieth step.
        warn: of what cannot be removed, once each.
        """
        self.folder, self.claim, self.ranks, self.keep = folder, claim, ranks, keep
        self.beside_training, self.warn = beside_training, warn
        self._said: set[str] = set()
        self._memory: Tensor | None = None
        self._ready: Future[Any] | None = None
        self._now: _UnderWay | None = None

    @property
    def step(self) -> int | None:
        """The step whose save is under way."""
        return self._now.step if self._now else None

    @property
    def waited(self) -> float:
        """Seconds that the step has waited for the save under way."""
        return self._now.waited if self._now else 0.0

    @property
    def copies(self) -> bool:
        """Whether there is memory for a copy, or there will be."""
        return self._memory is not None or self._ready is not None

    def reserve(self, size: int, wanted: float = 0.0, pinned: bool = False) -> None:
        """Get memory for a copy of `size` bytes, in a thread: its first touch is slow.

        wanted: bytes of this host that the next step will take beside what is held now. pinned: a
        CUDA GPU copies into it; asking for that begins CUDA.
        """
        hosts = self.ranks.gather(socket.gethostname())
        share = available_bytes() // hosts.count(socket.gethostname())
        room = min(share, own_limit_bytes()) - wanted
        enough = self.beside_training and room >= SPARE * size
        if min(self.ranks.gather(enough)):
            self._ready = _begin(lambda: _touched(size, pinned))

    def save(
        self,
        state: EngineState,
        manifest: Manifest,
        beside: Callable[[Path], None] | None = None,
    ) -> Saved | None:
        """Begin to write `step-N`; gives the save before, if it was still under way."""
        before, began = self.finish(), time.monotonic()
        step = manifest.progress["iteration"]
        aside = self.folder / f"step-{step}.tmp"
        share = Share(state, random_states(state.device))
        sizes = self.ranks.gather(share.bytes + len(share.random))
        self._say(self._together(lambda: self._prepare(aside, sum(sizes)), aside))
        manifest = replace(manifest, numbers=state.numbers)
        memory = self._memory_for(share)
        path = aside / file_name(self.ranks.rank)
        if memory is None:
            work = _begin(lambda: share.write(path))
            wait([work])
        else:
            share.copy(memory)
            work = _begin(lambda: share.write(path, memory))
        self._now = _UnderWay(step, manifest, share, beside, began, work)
        self._now.waited = time.monotonic() - began
        return before

    def _memory_for(self, share: Share) -> Tensor | None:
        if self._ready is not None:
            failed = self._ready.exception() is not None
            self._memory, self._ready = None if failed else self._ready.result(), None
        fits = self._memory is not None and len(self._memory) >= share.bytes
        return self._memory if min(self.ranks.gather(fits)) else None

    def _prepare(self, aside: Path, need: int) -> list[str]:
        if self.ranks.rank != 0:
            return []
        if self.claim:
            self.claim.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        stays = folders.clean(self.folder)
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise NoRoom(lacking(need, free))
        aside.mkdir()
        return stays

    def _say(self, stays: list[list[str]]) -> None:
        """What of each rank cannot be removed."""
        new = {text for some in stays for text in some} - self._said
        self._said |= new
        for text in sorted(new):
            self.warn(text)

    def advance(self) -> Saved | None:
        """Go on with what is under way, if this step of it is done on every rank."""
        now = self._now
        if now is None or self.ranks.largest(int(not now.work.done())):
            return None
        aside = self.folder / f"step-{now.step}.tmp"
        parts = self._together(now.work.result, aside)
        if now.files is None:
            now.files = {file_name(rank): entry for rank, entry in enumerate(parts)}
            shapes: dict[str, tuple[int, ...]] = {}
            for part in self.ranks.gather(now.share.shapes):
                shapes |= part
            now.manifest = replace(now.manifest, tensors=shapes)
            now.work = _begin(lambda: self._commit(now, aside))
            return None
        self._now = None
        self._say(parts)
        return Saved(
            self.folder / f"step-{now.step}",
            now.step,
            sum(entry.size for entry in now.files.values()),
            time.monotonic() - now.began,
            now.waited,
        )

    def finish(self) -> Saved | None:
        """Wait until nothing is under way."""
        done = None
        while self._now is not None:
            began = time.monotonic()
            wait([self._now.work])
            self._now.waited += time.monotonic() - began
            done = self.advance()
        return done

    def _commit(self, now: _UnderWay, aside: Path) -> list[str]:
        if self.ranks.rank != 0:
            return []
        if now.beside:
            now.beside(aside)
        assert now.files is not None
        manifest = replace(now.manifest, files=_complete(aside, now.files))
        if self.claim:
            self.claim.check()
        folders.commit(self.folder, now.step, manifest)
        return folders.forget(self.folder, now.step, *self.keep)

    def _together(self, act: Callable[[], Any], aside: Path) -> list[Any]:
        """What `act` gives on each rank; if it fails on one, all raise the same."""
        result, problem = None, None
        try:
            result = act()
        except (OSError, NotFinite, NotSaved, Lost, Gone) as error:
            problem = _problem(error)
        outcomes = self.ranks.gather((result, problem))
        problems = [found for _, found in outcomes if found]
        if problems:
            self._now = None
            if self.ranks.rank == 0:
                shutil.rmtree(aside, ignore_errors=True)
            kind, text = problems[0]
            raise kind(f"checkpoint {aside.with_suffix('')} was not written: {text}")
        return [result for result, _ in outcomes]


def _problem(error: Exception) -> tuple[type[Exception], str]:
    if isinstance(error, FileNotFoundError):  # what has just been made
        return Gone, gone(error.filename)
    if isinstance(error, OSError):
        text = reason(error) + (f": {error.filename}" if error.filename else "")
        return (NoRoom if error.errno in NO_ROOM else NotSaved), text
    return (NotSaved if isinstance(error, Lost) else type(error)), str(error)


def _touched(size: int, pinned: bool) -> Tensor:
    """Memory of `size` bytes that is really there."""
    memory = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    return memory.fill_(0)


def _complete(aside: Path, files: dict[str, Entry]) -> dict[str, Entry]:
    """All files, with those written beside the ranks'; all ranks' must be visible here."""
    aside.stat()  # raises FileNotFoundError
    found = list_files(aside)
    for name in files.keys() - set(found):
        raise OSError(
            None, "rank 0 does not see another rank's file: the folder must be shared", name
        )
    for name in set(found) - files.keys():
        sync(aside / name)
    return {name: files.get(name) or describe(aside / name) for name in found}
