"""A folder onto the local disk of every host: one archive, sent in a tree of plain TCP connections.

python -S -m longseq.host.broadcast SOURCE TARGET      one process a host: RANK, WORLD_SIZE

Rank 0 alone reads SOURCE, as a tar; rank r has it from rank (r - 1) // 2 and hands it on to 2 r + 1
and 2 r + 2 while it unpacks, so that all have it after little more than the time of one. Not
compressed: the network is faster than a core that compresses. TARGET is there whole, with the
digest of what was sent, or not at all. Standard library only: it runs before anything is imported
from a slow file system.

They find each other at MASTER_ADDR:MASTER_PORT, and know each other by LONGSEQ_TOKEN.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from longseq.host.atomic_files import publish_folder

PIECE = 1 << 20  # bytes of a message
SECONDS = float(
    os.environ.get("LONGSEQ_PATIENCE", "120")
)  # without a byte, after which a host is given up
HEAD = struct.Struct("!I")


class Broken(Exception):
    """A connection or a copy that is not what it should be."""


def _send(to: socket.socket, data: bytes) -> None:
    to.sendall(HEAD.pack(len(data)))
    to.sendall(data)


def _receive(of: socket.socket) -> bytes:
    length = HEAD.unpack(_exactly(of, HEAD.size))[0]
    if length > PIECE:
        raise Broken(f"a message of {length} bytes")
    return _exactly(of, length)


def _exactly(of: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = of.recv(count - len(found))
        if not part:
            raise Broken("the host before ended early")
        found += part
    return bytes(found)


def _connect(address: tuple[str, int], token: str) -> socket.socket:
    """A connection to a host that may not listen yet."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            found = socket.create_connection(address, timeout=SECONDS)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    _send(found, token.encode())
    return found


def _accept(server: socket.socket, token: str) -> tuple[socket.socket, str]:
    """The next one that knows the token, and its address; others are sent away."""
    while True:
        found, address = server.accept()
        found.settimeout(SECONDS)
        try:
            if hmac.compare_digest(_receive(found), token.encode()):
                return found, str(address[0])
        except (OSError, Broken):
            pass
        found.close()


def _listen(port: int = 0) -> socket.socket:
    server = socket.create_server(("", port), backlog=1024)
    server.settimeout(SECONDS)
    return server


def children(rank: int, size: int) -> list[int]:
    """Those that a rank hands on to."""
    return [child for child in (2 * rank + 1, 2 * rank + 2) if child < size]


def _meet(rank: int, size: int, address: tuple[str, int], token: str, port: int) -> tuple[str, int]:
    """Where this rank's parent listens; every rank tells rank 0 where it does itself."""
    if rank:
        with _connect(address, token) as master:
            _send(master, json.dumps([rank, port]).encode())
            host, number = json.loads(_receive(master))
        return (address[0] if (rank - 1) // 2 == 0 else host), int(number)
    places: dict[int, tuple[str, int]] = {0: (address[0], port)}
    waiting: dict[int, socket.socket] = {}
    unable = ""
    try:
        with _listen(address[1]) as server:
            while len(places) < size:  # also after one has given up: who comes late would wait long
                found, host = _accept(server, token)
                number, its_port = json.loads(_receive(found))
                if not (isinstance(number, int) and 0 < number < size and number not in places):
                    raise Broken(f"a rank {number!r} of {size}, or two of them")
                places[number], waiting[number] = (host, int(its_port)), found
                if not its_port:
                    unable = f"{host} cannot write where the copy goes"
            if unable:
                raise Broken(unable)
            for number, found in waiting.items():
                _send(found, json.dumps(places[(number - 1) // 2]).encode())
    finally:  # after an error the others hear at once that there will be nothing
        for found in waiting.values():
            found.close()
    return places[0]


def _give_up(rank: int, address: tuple[str, int], token: str) -> None:
    """Tell rank 0 that this one cannot take part, so that nobody waits for it."""
    if rank:
        with contextlib.suppress(OSError), _connect(address, token) as master:
            _send(master, json.dumps([rank, 0]).encode())


def _archive(source: Path) -> Iterator[bytes]:
    words = ["tar", "-C", str(source), "-cf", "-", "."]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        while piece := tar.stdout.read(PIECE):
            yield piece
    if tar.returncode:
        raise Broken(f"tar of {source} ended with {tar.returncode}")


def _pieces(parent: socket.socket) -> Iterator[bytes]:
    while piece := _receive(parent):
        yield piece


def broadcast(source: Path, target: Path, environ: Mapping[str, str] = os.environ) -> int:
    """Make `target`, on every host; returns the bytes of the archive. Raises Broken and OSError."""
    rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    address, token = (environ["MASTER_ADDR"], int(environ["MASTER_PORT"])), environ["LONGSEQ_TOKEN"]
    aside = target.with_name(target.name + ".tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir(mode=0o700)  # another's is not touched
    except OSError:
        _give_up(rank, address, token)
        raise
    below: list[socket.socket] = []
    parent = None
    try:
        with _listen() as server:
            place = _meet(rank, size, address, token, server.getsockname()[1])
            parent = _connect(place, token) if rank else None
            below = [_accept(server, token)[0] for _ in children(rank, size)]
        count = _copy(_pieces(parent) if parent else _archive(source), parent, below, aside)
        publish_folder(aside, target)
        return count
    finally:
        for one in [*below, *([parent] if parent else [])]:
            one.close()
        shutil.rmtree(aside, ignore_errors=True)


def _copy(
    pieces: Iterator[bytes], parent: socket.socket | None, below: list[socket.socket], aside: Path
) -> int:
    """Hand on and unpack what comes, and compare its digest with the sender's."""
    digest, count = hashlib.sha256(), 0
    with subprocess.Popen(["tar", "-C", str(aside), "-xf", "-"], stdin=subprocess.PIPE) as tar:
        room: IO[bytes] | None = tar.stdin
        assert room is not None
        for piece in pieces:
            for one in below:
                _send(one, piece)
            room.write(piece)
            digest.update(piece)
            count += len(piece)
        room.close()
    told = _receive(parent) if parent else digest.digest()
    for one in below:
        _send(one, b"")
        _send(one, told)
    if tar.returncode:
        raise Broken(f"unpacking in {aside} ended with {tar.returncode}: is the disk full?")
    if not hmac.compare_digest(told, digest.digest()):
        raise Broken("what arrived is not what was sent")
    (aside / "broadcast.json").write_text(json.dumps({"sha256": told.hex(), "bytes": count}))
    return count


def main(source: str, target: str) -> int:
    """One line for what went wrong, with the host."""
    try:
        began = time.monotonic()
        count = broadcast(Path(source), Path(target))
    except (Broken, OSError) as error:
        print(f"longseq: {socket.gethostname()}: {error}", file=sys.stderr)
        return 1
    if os.environ["RANK"] == "0":
        seconds = time.monotonic() - began
        print(f"{count / 2**30:.2f} GiB to {os.environ['WORLD_SIZE']} host(s) in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
