"""Writing so that a reader never sees half a file and a power cut never leaves one.

The only place with fsync, rename and digests.

    replace_file(path, text)            one small file, whole
    make_aside(target), publish_…       several files that are seen together or not at all
    new_folder(target, flag)            the same for a folder that the user names
    unfinished(target, flag)            the same, which a killed writer leaves to the next
    replace_folder(aside, target, old)  the same, where an older one may be there
    digest(path), Sha256()              of a file, of a stream
    same_files(written, others)         which of them would take another's place
    tick(), ticks()                     a piece of such work is done; how many so far
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from longseq.errors import FullDisk, UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_NAME = {errno.ENAMETOOLONG, errno.EACCES}  # a mere `is_dir` raises them too
NO_FILE_MORE = "no room for one more file, however small (`df -i` shows how many there may be)"
BLOCK = 1 << 22
ASIDE = ".aside-"
UNFINISHED = ".unfinished"
LOCK = "lock"

Sha256 = hashlib.sha256  # of bytes as they pass
Name = str | os.PathLike[str]
_ticks = 0


def tick() -> None:
    """A piece is written, hashed, flushed, read or removed. By that a rank is seen to move whose
    main thread waits for it (run/safety/heartbeat.py); a count that is lost between two threads
    does no harm.
    """
    global _ticks
    _ticks += 1


def ticks() -> int:
    """How many pieces this process has done so far."""
    return _ticks


def sync(path: Path) -> None:
    """Flush a file or a folder (its list of names) to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    tick()


def sync_open(file: IO[Any]) -> None:
    """Flush a file that is being written to disk."""
    file.flush()
    os.fsync(file.fileno())
    tick()


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Put `text` at `path` whole: written beside it, flushed, then renamed over it.

    Names and values of the environment that are no UTF-8 come out as the bytes that they were.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb", opener=lambda p, f: os.open(p, f, mode)) as file:
            file.write(text.encode(errors="surrogateescape"))
            sync_open(file)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hex; outside Python's lock."""
    sha = Sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()


def make_aside(target: Path, remedy: str = "name a folder that can be written") -> Path:
    """A new empty folder beside `target` that names its writer: files wait there until all are
    whole. remedy: of the user where that cannot be, with the name of the flag or variable.

    A killed writer leaves its folder; this call removes those of this host. No lock files: a lock
    that outlives its owner would block everybody.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in target.parent.glob(escape(target.name) + ASIDE + "*"):
            if _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        name = f"{target.name}{ASIDE}{_host()}-{os.getpid()}-{os.urandom(3).hex()}"
        aside = target.parent / name
        aside.mkdir()
    except OSError as error:
        raise unwritable(f"{target.parent}: {reason(error)}: {remedy}", error) from None
    return aside


@contextmanager
def unfinished(target: Path, flag: str) -> Iterator[Path]:
    """TARGET.unfinished, a folder for one writer at a time: what a killed one left is still there.
    flag: what names the target.

    The kernel's lock ends with its owner; on a file system without locks there is none. Who is done
    removes the folder. A folder that was there and is a user's is for the caller to refuse.
    """
    folder = target.with_name(target.name + UNFINISHED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a")  # noqa: SIM115
    except OSError as error:
        text = f"{flag} {target}: {reason(error)}: name a folder that can be written"
        raise unwritable(text, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not (folder / LOCK).exists()  # another has just finished
        except BlockingIOError:
            taken = True
        except OSError:
            taken = False
        if taken:
            raise UserError(f"{target}: another process writes it: wait until it has ended")
        yield folder


def publish_files(aside: Path, target: Path, names: Iterable[str], last: str) -> None:
    """Move these files of `aside` beside each other into `target`, the one named `last` at the end.

    An older `last` goes first: what is opened through it stops opening before the others change.
    Where one cannot be moved, those that were are moved back.
    """
    (target / last).unlink(missing_ok=True)
    with ExitStack() as back:
        for name in [*sorted(set(names) - {last}), last]:
            os.replace(aside / name, target / name)
            back.callback(os.replace, target / name, aside / name)
        back.pop_all()
    sync(target)


def publish_folder(aside: Path, target: Path) -> None:
    """Give a folder that is whole its name; OSError where another writer was faster."""
    sync(aside)
    os.rename(aside, target)
    sync(target.parent)


@contextmanager
def new_folder(target: Path, flag: str) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end, or is gone where that fails.

    Raises UserError, which names the flag, where `target` is there or cannot be written, or the
    folder that is to hold it is not there; FullDisk where there is no room.
    """
    if target.exists():
        raise UserError(f"{flag} {target} exists: name a new folder")
    if not target.parent.is_dir():  # as of a name that is misspelt
        raise UserError(f"{flag} {target}: there is no folder {target.parent}: make it first")
    aside = make_aside(target, f"{flag} must be in a folder that can be written")
    try:
        yield aside
        publish_folder(aside, target)
    except OSError as error:
        text = f"{flag} {target} cannot be written: {lost(error, aside)}"
        raise unwritable(text, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def replace_folder(aside: Path, target: Path, old: Path) -> None:
    """Give a folder that is whole the name of one that may be there, which is `old` from then on.

    Readers take `old` while `target` is missing; who called removes it when it needs it no more.
    """
    sync(aside)
    if os.path.lexists(target):  # a link that leads nowhere is in the way too
        target.rename(old)
    aside.rename(target)
    sync(target.parent)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or a file; of a link the link, not what it names."""
    if path.is_dir() and not path.is_symlink():
        for file in path.iterdir():  # one for each rank of a checkpoint
            if file.is_symlink() or not file.is_dir():
                file.unlink()
                tick()
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_folder(path: Path, aside: Path) -> None:
    """Remove a folder, or a link, renamed to `aside` first, so that none sees half of it."""
    path.rename(aside)
    remove(aside)


def same_files(written: Iterable[Name], others: Iterable[Name]) -> Iterator[tuple[Name, Name]]:
    """Each file to be written that is one of the others, with that one; asked before any is written
    or read. Links and hard links are what they lead to.
    """
    known = {key: other for other in others for key in _keys(other)}
    for path in written:
        for key in _keys(path):
            if key in known:
                yield path, known[key]
                break


def _keys(path: Name) -> Iterator[object]:
    """What all names of a file have in common; of one that is not there yet, its real path."""
    yield os.path.realpath(path)
    with suppress(OSError):
        facts = os.stat(path)
        yield facts.st_dev, facts.st_ino


def reason(error: OSError) -> str:
    """What went wrong in words a user can act on."""
    if error.errno == errno.ENOSPC and error.filename and no_file_more(Path(error.filename)):
        return NO_FILE_MORE
    if error.errno in NO_ROOM:
        return "no space left (disk full, quota or file size limit)"
    return error.strerror or str(error)


def no_file_more(path: Path) -> bool:
    """Whether the disk of `path`, which need not be there, has no number for another file."""
    with suppress(OSError):
        disk = os.statvfs(path if path.is_dir() else path.parent)
        return disk.f_files > 0 and disk.f_favail == 0
    return False


def gone(path: Name) -> str:
    """Of what was there when this process began to use it."""
    return f"{path} is gone: it was removed or moved while this run used it"


def lost(error: OSError, folder: Path) -> str:
    """The reason of an error in `folder`, where this process writes: it may have been removed."""
    missing = error.errno == errno.ENOENT and not folder.exists()
    return gone(folder if folder.parent.exists() else folder.parent) if missing else reason(error)


def unwritable(text: str, error: OSError) -> UserError:
    """What to raise for `error`, `text` being the one line: a full disk is no mistake."""
    return FullDisk(text) if error.errno in NO_ROOM else UserError(text)


def no_name(error: OSError) -> UserError | None:
    """What to raise where a name cannot even be looked at, as only one that a user gave; else None.

    Said at the end of a verb, as no question whether something is there expects it.
    """
    if error.errno not in NO_NAME or not error.filename:
        return None
    return UserError(f"{error.filename}: {reason(error)}: give another name")


def _host() -> str:
    return os.uname().nodename.replace("-", "_") or "host"


def _abandoned(folder: Path) -> bool:
    """Whether the writer that made a folder ran on this host and has ended."""
    parts = folder.name.rpartition(ASIDE)[2].split("-")
    if len(parts) != 3 or parts[0] != _host() or not parts[1].isdecimal():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
