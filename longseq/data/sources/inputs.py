"""Which files are read, and as what: names, folders, lists and standard input → streams of bytes.

Compression and format are told from the content, never from a name alone.
"""

import codecs
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from longseq.data.sources.formats import (
    BLOCK,
    NOT_IN_FOLDERS,
    compression,
    decompressed,
    kind_by_name,
    recognise,
)
from longseq.data.sources.remote import is_url, local, matches, open_url, shown, trouble
from longseq.errors import UserError
from longseq.host.atomic_files import Sha256

PEEK = 1 << 16


@dataclass(frozen=True)
class Inputs:
    """paths: what is read, in order, "-" for standard input; skipped: other files there; lists:
    the files that named them.
    """

    paths: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """All that is read here: no standard input, and nothing of other hosts."""
        return [path for path in (*self.paths, *self.lists) if path != "-" and not is_url(path)]

    @property
    def once(self) -> str:
        """The first that cannot be read a second time, as a pipe, or ""."""
        here = (path for path in self.paths if not is_url(path))
        return next((path for path in here if path == "-" or not os.path.isfile(path)), "")

    @property
    def bytes(self) -> int:
        """Their size as stored, 0 where it is not known before they are read."""
        if any(path == "-" or is_url(path) for path in self.paths):
            return 0
        return sum(os.path.getsize(path) for path in self.paths if os.path.exists(path))


def expand(names: list[str]) -> Inputs:
    """Files as they are; @LIST is a file with one name a line, relative to its folder; a folder is
    its sequence files and those of its folders, linked ones too.
    """
    paths: list[str] = []
    skipped: list[str] = []
    lists: list[str] = []
    for name in names:
        if name.startswith("@") and not os.path.exists(name):
            inner = expand(_listed(name[1:]))
            lists.append(name[1:])
            paths += inner.paths
            skipped += inner.skipped
        elif os.path.isdir(name):
            for path in sorted(_files_of(name)):
                kind = kind_by_name(os.path.basename(path))
                wanted = kind is not None and kind not in NOT_IN_FOLDERS
                (paths if wanted else skipped).append(path)
        elif is_url(name):
            for path in map(local, matches(name)):
                inner = Inputs((path,), (), ()) if is_url(path) else expand([path])
                paths += inner.paths
                skipped += inner.skipped
        elif name == "-" or os.path.exists(name):
            paths.append(name)
        else:
            raise UserError(
                f"{name}: no such file or folder: name FASTA files, a folder, @LIST, a URL or -"
            )
    if not paths:
        raise UserError(
            f"no sequence file in {', '.join(names)}: name files that end in .fa, .fna, …"
        )
    _refuse_twins(paths)
    return Inputs(tuple(paths), tuple(skipped), tuple(lists))


def _files_of(folder: str) -> list[str]:
    """All files below a folder, through links; a folder that links lead to twice is read once."""
    found: list[str] = []
    seen: set[str] = set()
    for top, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort()
        found += [os.path.join(top, file) for file in files]
    return [path for path in found if os.path.isfile(path)]


def _refuse_twins(paths: list[str]) -> None:
    """A file that is read twice would be in training and in validation."""
    seen: dict[object, str] = {}
    for path in paths:
        real: object = path
        if path != "-" and not is_url(path):
            facts = os.stat(path)  # through links, hard ones too
            real = facts.st_dev, facts.st_ino
        if real in seen:
            also = "" if seen[real] == path else f" (the second time as {shown(path)})"
            raise UserError(f"{shown(seen[real])} is named twice{also}: name it once")
        seen[real] = path


def _listed(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"@{path}: cannot be read as a list of files ({error})") from None
    folder = os.path.dirname(path)
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"@{path} names no file: write one name a line")
    paths = [n if n == "-" or is_url(n) else os.path.join(folder, n) for n in names]
    missing = [n for n in paths if n != "-" and not is_url(n) and not os.path.exists(n)]
    if missing:
        raise UserError(
            f"@{path}: {missing[0]}: no such file: names in a list are relative to its folder"
        )
    return paths


class Metered(io.RawIOBase):
    """A raw stream that digests what is read from it, as stored (compressed or not)."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._sha = Sha256()
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer: a pipe gives what was written at once, and a format takes more."""
        count = 0
        while more := self._raw.readinto(buffer[count:]):
            count += more
        self._sha.update(buffer[:count])
        self.bytes_read += count
        return count

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


@dataclass
class Source:
    """An open input: stream of decompressed bytes, its kind, and the meter below it.

    path: its name as it may be shown. file: whether libraries may open it themselves. part: how
    much of it came as records, where a library reads a file that has been read for its digest.
    """

    path: str
    kind: str
    stream: BinaryIO
    meter: Metered
    file: bool
    part: float = 1.0

    @property
    def bytes_done(self) -> int:
        """How many of its bytes have come as records."""
        return int(self.part * self.meter.bytes_read)

    def read(self, size: int) -> bytes:
        """Up to `size` decompressed bytes; a damaged file is the user's to mend."""
        try:
            return self.stream.read(size)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            raise UserError(_damaged(self.path, error)) from None

    def facts(self) -> dict[str, Any]:
        """What the manifest says of an input that was read to its end."""
        return {
            "path": self.path,
            "kind": self.kind,
            "bytes": self.meter.bytes_read,
            "sha256": self.meter.hexdigest(),
        }

    @contextmanager
    def local(self, scratch: str) -> Iterator[str]:
        """Read all of it, and name a file that holds it uncompressed: itself, or a copy at
        `scratch` that is removed at the end.
        """
        self.part = 0.0
        with nullcontext() if self.file else open(scratch, "wb") as copy:
            while block := self.read(BLOCK):
                if copy is not None:
                    copy.write(block)
        try:
            yield self.path if self.file else scratch
        finally:
            if not self.file:
                os.unlink(scratch)


def _damaged(path: str, error: Exception) -> str:
    if is_url(path):
        return f"{path}: {trouble(error)}"
    return f"{path} is damaged or cut off ({str(error) or type(error).__name__}): fetch it again"


@contextmanager
def open_source(name: str, text_tokens: bool = False, kind: str = "") -> Iterator[Source]:
    """Open and recognise one input, unless its kind is known.

    text_tokens: unrecognised content counts as plain text.
    """
    path = shown(name)
    raw = _open(name)
    meter = Metered(raw)
    with raw:
        lower = io.BufferedReader(meter, buffer_size=PEEK)  # larger reads are not copied by it
        try:
            plain = lower.peek(PEEK)[:PEEK]
            squeezed = compression(plain)
            stream: Any = decompressed(lower, squeezed) if squeezed else lower
            head = stream.peek(PEEK)[:PEEK]
            is_file = head == plain and os.path.isfile(name)
            if head.startswith(codecs.BOM_UTF8):  # as editors of Windows write it
                stream.read(len(codecs.BOM_UTF8))
                head = head.removeprefix(codecs.BOM_UTF8)
        except Exception as error:
            raise UserError(_damaged(path, error)) from None
        if not head:
            raise UserError(f"{path} is empty: leave it out")
        kind = kind or recognise(path, head, text_tokens)
        yield Source(path, kind, cast(BinaryIO, stream), meter, is_file)


def _open(name: str) -> io.RawIOBase:
    if is_url(name):
        return cast(io.RawIOBase, open_url(name))
    try:
        return open(0 if name == "-" else name, "rb", buffering=0, closefd=name != "-")
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}: name a file that can be read") from None


def has_kind(paths: tuple[str, ...], kinds: tuple[str, ...]) -> bool:
    """Whether an input may be of these kinds; what cannot be looked at twice may."""
    for path in paths:
        if not os.path.isfile(path):
            return True
        try:
            with open_source(path, text_tokens=True) as source:
                if source.kind in kinds:
                    return True
        except UserError:  # reading it will say what is wrong
            return True
    return False
