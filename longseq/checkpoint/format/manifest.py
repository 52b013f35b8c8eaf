"""What a finished checkpoint holds: enough to see without torch that it is whole, and that it fits.

`manifest.json` lists every file with its size and the SHA-256 of each of its blocks, every tensor
with its whole shape, and what the run was that wrote it. It carries a checksum of itself too: a
flipped bit in a size is as bad as one in a weight. Standard library only.

A manifest that is as it was written, and yet not understood, is another version's: no damage, which
would be passed over and replaced, but refused. For a key more, with a default for checkpoints
before it, that needs nothing: older versions refuse the keys that they do not know. FORMAT is to be
raised where they would understand something else: a key that is gone, one or a file that means
another thing, something new inside of a key that they would pass over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from longseq.errors import UserError
from longseq.host.atomic_files import Sha256, replace_file, tick

NAME = "manifest.json"
FORMAT = 2
PROGRESS = ("iteration", "consumed_samples", "consumed_tokens")
BLOCK = 1 << 26  # bytes under one hash: several threads hash a file, several ranks a checkpoint
READ = 1 << 20  # so small that it is hashed while it lies in the processor's cache


class Damaged(Exception):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Entry:
    """One file of a checkpoint: its size in bytes and the SHA-256 of each BLOCK of it."""

    size: int
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A checkpoint, described.

    progress: how far the run was: iteration, consumed_samples (its position in the data) and
    consumed_tokens. network, optimizer, vocabulary and tokenizer must be those of whoever loads it;
    optimizer is "" where there are weights only. layout is for the reader, and says whose random
    states these are. numbers: what the optimizer counts, and fp16's loss scale. tensors: whole
    shapes, by names such as "weight/layers.0.mlp.up.weight" and "exp_avg/layers.0.mlp.up.weight".
    spikes: what --on-spike compares with. data: what the numbers of samples mean. Older checkpoints
    have neither.
    """

    progress: Mapping[str, int]
    network: Mapping[str, Any]
    optimizer: str
    vocabulary: int
    tokenizer: str
    layout: Mapping[str, Any]
    versions: Mapping[str, str]
    numbers: Mapping[str, float] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    files: Mapping[str, Entry] = field(default_factory=dict)
    spikes: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it into `folder`, flushed to disk."""
        body = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        text = json.dumps({**body, "checksum": _checksum(body)}, indent=1)
        replace_file(folder / NAME, text + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises Damaged where there is none that holds together.

    Raises UserError for one of another version, such as the old form, whose files were pickles.
    """
    try:
        body = json.loads((folder / NAME).read_text(encoding="utf-8"))
        checksum = body.pop("checksum")
        if checksum != _checksum(body):
            raise Damaged(f"{NAME} does not match its own checksum")
        if (version := body.pop("format")) != FORMAT:
            raise _of_another(folder, f"has format {version} and this version reads {FORMAT}")
        if unknown := sorted(body.keys() - {item.name for item in fields(Manifest)}):
            text = f"has {', '.join(unknown)} in its {NAME}, which this version does not know"
            raise _of_another(folder, text)
        body["tensors"] = {name: tuple(shape) for name, shape in body["tensors"].items()}
        files = body["files"].items()
        body["files"] = {name: Entry(e["size"], tuple(e["sha256"])) for name, e in files}
        manifest = Manifest(**body)
        return replace(manifest, progress={name: int(body["progress"][name]) for name in PROGRESS})
    except FileNotFoundError:
        raise Damaged(f"{NAME} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{NAME} cannot be read ({type(error).__name__}: {error})") from None


def _of_another(folder: Path, what: str) -> UserError:
    return UserError(
        f"checkpoint {folder} {what}: go on with the version that wrote it, or start anew without"
        " --load (LOAD or RESUME)"
    )


def _checksum(body: Mapping[str, Any]) -> str:
    return Sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def describe(path: Path) -> Entry:
    """Size and hashes of a file; reads all of it."""
    size = path.stat().st_size
    blocks = range(0, max(size, 1), BLOCK)
    return Entry(size, tuple(_hash_block(path, start) for start in blocks))


def _hash_block(path: Path, start: int) -> str:
    digest, left, room = Sha256(), BLOCK, memoryview(bytearray(READ))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (size := file.readinto(room[: min(READ, left)])):
            digest.update(room[:size])
            left -= size
            tick()
    return digest.hexdigest()


def list_files(folder: Path) -> list[str]:
    """Names of the files under `folder`, relative to it, for its manifest: hidden ones are not ours
    (NFS and desktops make some, and take them away).
    """
    names = []
    for root, _, files in os.walk(folder):
        names += [(Path(root) / file).relative_to(folder) for file in files if file[0] != "."]
    return sorted(name.as_posix() for name in names if name != Path(NAME))


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise Damaged unless the listed files are there, each with its size. Nothing else is read."""
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Damaged(f"{name!r} lies outside the checkpoint")
    for name in sorted(manifest.files):
        if not os.path.lexists(folder / name):
            raise Damaged(f"{name} is missing")
    for name, entry in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:  # a link that leads nowhere is listed
            raise Damaged(f"{name} cannot be read: {error.strerror}") from None
        if size != entry.size:
            raise Damaged(f"{name} has {size} bytes, {entry.size} were written")
        if len(entry.sha256) != max(1, -(-size // BLOCK)):
            raise Damaged(f"{name} has {len(entry.sha256)} hashes in {NAME}")


def tell_others(folder: Path, manifest: Manifest) -> str:
    """What to say of what others have put into a whole checkpoint; empty where there is nothing."""
    _, folders, files = next(os.walk(folder), ("", [], []))
    ours = {NAME, *(name.partition("/")[0] for name in manifest.files)}
    if not (names := sorted({*folders, *files} - ours)):
        return ""
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"not of the checkpoint, and not read: {listed}"


def blocks_of(manifest: Manifest) -> list[tuple[str, int]]:
    """Every block of every file, as (name, number): what ranks and threads share between them."""
    files = sorted(manifest.files.items())
    return [(name, number) for name, entry in files for number in range(len(entry.sha256))]


def check_blocks(
    folder: Path, manifest: Manifest, blocks: Iterable[tuple[str, int]], threads: int = 0
) -> None:
    """Raise Damaged unless these blocks hold what was written.

    threads: that hash at once; 0: as many as this process has cores, at most 4.
    """

    def check(block: tuple[str, int]) -> None:
        name, number = block
        try:
            found = _hash_block(folder / name, number * BLOCK)
        except OSError as error:
            raise Damaged(f"{name} cannot be read: {error.strerror}") from None
        if found != manifest.files[name].sha256[number]:
            raise Damaged(f"{name} is not what was written (SHA-256 differs)")

    threads = threads or min(4, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(check, blocks):
            pass
