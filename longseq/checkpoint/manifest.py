"""What a finished checkpoint holds, so that damage is noticed before anything is unpickled.

`manifest.json` lists every file with its size and SHA-256, the step, the layout that wrote it and
the versions. It carries a checksum of itself too: a flipped bit in a size is as bad as one in a
weight. Standard library only: `longseq doctor` and the shell can check a checkpoint without
torch.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from longseq.host.atomic_files import replace_file

NAME = "manifest.json"
FORMAT = 1
BLOCK = 1 << 22


class Damaged(Exception):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Entry:
    """One file of a checkpoint."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`layout` is whatever must be equal for the checkpoint to load; `versions` is for the
    reader.
    """

    step: int
    layout: Mapping[str, Any]
    versions: Mapping[str, str]
    files: Mapping[str, Entry]

    def write(self, folder: Path) -> None:
        """Write it into `folder`, flushed to disk."""
        body = {"format": FORMAT, **asdict(self)}
        replace_file(
            folder / NAME, json.dumps({**body, "checksum": _checksum(body)}, indent=1) + "\n"
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises Damaged where there is none that holds together."""
    try:
        body = json.loads((folder / NAME).read_text(encoding="utf-8"))
        checksum = body.pop("checksum")
        if checksum != _checksum(body):
            raise Damaged(f"{NAME} does not match its own checksum")
        if body["format"] != FORMAT:
            raise Damaged(f"{NAME} has format {body['format']}; this version reads {FORMAT}")
        files = {name: Entry(**entry) for name, entry in body["files"].items()}
        return Manifest(body["step"], body["layout"], body["versions"], files)
    except FileNotFoundError:
        raise Damaged(f"{NAME} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{NAME} cannot be read ({type(error).__name__}: {error})") from None


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def describe(path: Path) -> Entry:
    """Size and SHA-256 of a file; reads all of it, outside Python's lock."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return Entry(size, digest.hexdigest())


def list_files(folder: Path) -> list[str]:
    """Names of all files under `folder`, relative to it, without the manifest."""
    names = []
    for root, _, files in os.walk(folder):
        names += [(Path(root) / file).relative_to(folder).as_posix() for file in files]
    return sorted(name for name in names if name != NAME)


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise Damaged unless exactly the listed files are there: a loader may take any file it
    finds.
    """
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Damaged(f"{name!r} lies outside the checkpoint")
    present = set(list_files(folder))
    for name in sorted(manifest.files.keys() - present):
        raise Damaged(f"{name} is missing")
    for name in sorted(present - manifest.files.keys()):
        raise Damaged(f"{name} was not written by the checkpoint")


def check_files(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raise Damaged unless these files have the size and content that were written."""
    for name in names:
        path, entry = folder / name, manifest.files[name]
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise Damaged(f"{name} has {size} bytes, {entry.size} were written")
            if describe(path) != entry:
                raise Damaged(f"{name} is not what was written (SHA-256 differs)")
        except OSError as error:
            raise Damaged(f"{name} cannot be read: {error.strerror}") from None
