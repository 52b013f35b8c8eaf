"""A stream of any length as pieces of bounded memory, cut between records."""

from collections.abc import Iterator

from longseq.data.sources.inputs import Source
from longseq.data.sources.names import header_name
from longseq.data.sources.pieces import Chunk, LongRecord, Piece
from longseq.data.sources.tables import KINDS, Columns, table_pieces
from longseq.data.sources.twobit import twobit_pieces
from longseq.errors import UserError

LARGEST_BUFFER = 1 << 30
LONGEST_READ = 1 << 22  # of FASTQ, with its qualities
SEPARATORS = {"fasta": b"\n>", "genbank": b"\n//", "embl": b"\n//", "text": b"\n", "jsonl": b"\n"}


def pieces(source: Source, size: int, columns: Columns, scratch: str) -> Iterator[Piece]:
    """The records of a source in order, about `size` bytes at a time.

    scratch: where a copy may lie of what is not a file here, for libraries that need one.
    """
    if source.kind in KINDS:
        return table_pieces(source, size, columns, scratch)
    if source.kind == "2bit":
        return twobit_pieces(source, size, scratch)
    return _chunks(source, size)


def _chunks(source: Source, size: int) -> Iterator[Chunk | LongRecord]:
    if source.kind == "fastq":
        yield from _fastq_chunks(source, max(size, LONGEST_READ))
        return
    separator = SEPARATORS[source.kind]
    after = len(separator.removesuffix(b">"))  # of it stays left of the cut
    kept: list[bytes] = []  # of a record whose end is in a block to come, joined once
    blocks = _blocks(source, size)
    block = next(blocks, b"")
    for following in blocks:
        cut = block.rfind(separator) + after
        if cut >= after:
            yield Chunk(source.kind, source.path, b"".join((*kept, memoryview(block)[:cut])))
            kept, block = [], block[cut:]
        else:
            length = sum(map(len, kept)) + len(block)
            if source.kind in ("fasta", "text") and length >= size:
                long = _Long(source, b"".join((*kept, block)), following, size)
                yield LongRecord(source.kind, source.path, long.name, long.pieces())
                kept, block = [], long.rest
                continue
            if length > LARGEST_BUFFER:
                raise UserError(f"{source.path}: a record is longer than 1 GiB: give it as FASTA")
        begun = block.rfind(b"\n", max(0, len(block) - len(separator) + 1))  # a separator, perhaps
        whole = len(block) if begun < 0 else begun
        kept.append(block[:whole])
        block = block[whole:] + following  # mostly nothing and that, which is not copied
    last = b"".join((*kept, block))
    if last.strip() or (last and source.kind == "text"):
        yield Chunk(source.kind, source.path, last)


def _blocks(source: Source, size: int) -> Iterator[bytes]:
    """What is read at a time, from the first letter on; of text all of it, blanks too."""
    begun = source.kind == "text"
    while block := source.read(size):
        if begun or (block := block.lstrip()):
            begun = True
            yield block


class _Long:
    """Reads one record to its end, wherever the blocks are cut."""

    def __init__(self, source: Source, buffer: bytes, block: bytes, size: int) -> None:
        self.name, body = "", 0
        self._separator = SEPARATORS[source.kind]
        if source.kind == "fasta":
            body = buffer.find(b"\n")  # from the line end on, which may be all: > may follow
            if body < 0:
                raise UserError(
                    f"{source.path}: a header line of more than {size:,} bytes: this is not FASTA"
                )
            self.name = header_name(buffer[:body])
        self.rest = b""
        self._source, self._size = source, size
        self._waiting = [buffer[body:], block]

    def pieces(self) -> Iterator[bytes]:
        held = b""  # of a line end, behind which the next record may start
        while self._waiting or (block := self._source.read(self._size)):
            block = held + (self._waiting.pop(0) if self._waiting else block)
            cut = block.find(self._separator)
            if cut >= 0:
                self.rest = block[cut + 1 :] + b"".join(self._waiting)
                yield block[:cut].removesuffix(b"\r")
                return
            held = block[-1:] if block.endswith((b"\n", b"\r")) else b""
            yield block[: len(block) - len(held)]


def _fastq_chunks(source: Source, size: int) -> Iterator[Chunk]:
    import dnaio

    try:
        for part in dnaio.read_chunks(_Reader(_blocks(source, size)), size):
            yield Chunk("fastq", source.path, bytes(part))
    except OverflowError:
        raise UserError(
            f"{source.path}: a read is longer than {size:,} bytes: give it as FASTA"
        ) from None
    except (dnaio.FileFormatError, dnaio.UnknownFileFormat) as error:
        raise UserError(f"{source.path} is not FASTQ ({error}): fetch it again") from None
    except AssertionError:  # dnaio asserts that a file has four bytes
        raise UserError(f"{source.path} is not FASTQ, or cut off: fetch it again") from None


class _Reader:
    """What dnaio asks of a file, with our errors; without the blank lines at its ends, which it
    takes for reads.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._ready = b""
        self._held = b""  # line ends behind which nothing has come yet
        self._lines = 0  # in all that was ready
        self._ended = False

    def readinto(self, buffer: memoryview) -> int:
        size = len(buffer)
        while len(self._ready) < size and not self._ended:
            block = next(self._blocks, b"")
            self._ended = not block
            more = self._held + block
            body = more.rstrip(b"\r\n")
            self._held = more[len(body) :]
            if self._ended:  # a read has four lines, of which the last may be empty
                wanted = 4 - self._lines % 4
                body = b"".join(self._held.splitlines(keepends=True)[:wanted])
            self._lines += body.count(b"\n")
            self._ready += body
        data, self._ready = self._ready[:size], self._ready[size:]
        buffer[: len(data)] = data
        return len(data)
