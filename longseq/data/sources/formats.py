"""Which format and compression a file has, by its first bytes; a name says it of text, and of files
in folders.
"""

import bz2
import io
import lzma
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from longseq.errors import UserError

SUFFIXES = {
    "fasta": (".fa", ".fasta", ".fna", ".ffn", ".fas", ".fsa", ".frn"),
    "fastq": (".fq", ".fastq"),
    "genbank": (".gb", ".gbk", ".gbff", ".genbank"),
    "embl": (".embl",),
    "2bit": (".2bit",),
    "parquet": (".parquet",),
    "arrow": (".arrow", ".feather"),
    "jsonl": (".jsonl", ".ndjson"),
    "text": (".txt", ".text", ".seq"),
}
NOT_IN_FOLDERS = ("jsonl", "text")  # a README.txt is no sequence
MARKS = (
    (b">", "fasta"),
    (b"@", "fastq"),
    (b"LOCUS ", "genbank"),
    (b"ID   ", "embl"),
    (b"{", "jsonl"),
    (b"PAR1", "parquet"),
    (b"ARROW1\0\0", "arrow"),
    (b"\xff\xff\xff\xff", "arrow stream"),  # what Hugging Face's datasets keep
    (b"\x43\x27\x41\x1a", "2bit"),
    (b"\x1a\x41\x27\x43", "2bit"),  # written on a machine of the other byte order
)
# A FASTQ's first read may be called as a line of SAM's header, but has no such field behind that
ALIGNED = re.compile(rb"@(HD|SQ|RG|PG)\t[A-Za-z][A-Za-z0-9]:|BAM\x01|CRAM[\x02\x03]")
BLEND = ".blend"  # of the lists that --data-path takes
COMPRESSED = (".gz", ".bgz", ".bz2", ".xz", ".zst")
SQUEEZED = {  # how a compressed file starts → what xopen calls it
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    **{bytes((0x50 + n, 0x2A, 0x4D, 0x18)): "zst" for n in range(16)},  # as pzstd, a frame to skip
}
BGZIP_BLOCK = re.compile(rb"\x1f\x8b\x08\x04.{8}BC\x02\0(..)", re.DOTALL)  # its bytes, less one
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
BGZIP_MOST = 1 << 16  # bytes of a block
BLOCK = 1 << 20


def kind_by_name(name: str) -> str | None:
    stem = name.lower()
    for suffix in COMPRESSED:
        stem = stem.removesuffix(suffix)
    for kind, suffixes in SUFFIXES.items():
        if stem.endswith(suffixes):
            return kind
    return None


def _kind_by_mark(head: bytes) -> str:
    """The format that a file's first bytes are those of, or ""."""
    start = head.lstrip()
    return next((kind for mark, kind in MARKS if start.startswith(mark)), "")


def recognise(path: str, head: bytes, text_tokens: bool) -> str:
    """The format of a file by its first bytes."""
    start = head.lstrip()
    if start.startswith(b">") and b"\r" in head and b"\n" not in head:
        raise UserError(f"{path} has line ends of old Macintoshes: convert it with tr '\\r' '\\n'")
    by_name = kind_by_name(os.path.basename(path))
    if by_name == "jsonl" or (by_name == "text" and not text_tokens):
        return by_name
    if by_name != "text" and ALIGNED.match(start):
        raise UserError(
            f"{path} is SAM, BAM or CRAM, which are not read: make FASTQ of it with samtools fastq"
        )
    if by_name != "text" and (kind := _kind_by_mark(head)):
        return kind
    if text_tokens:
        _check_text(path, head)
        return "text"
    raise UserError(
        f"{path} is not FASTA, FASTQ, GenBank, EMBL, .2bit, parquet, Arrow or JSON lines (it starts"
        f" with {head[:16]!r}); a file of one sequence a line must end in .txt"
    )


def _check_text(path: str, head: bytes) -> None:
    """Refuse what is taken for text for want of a mark, and is none: tokens of bytes stand for it
    as well.
    """
    if path.endswith(BLEND):
        raise UserError(f"{path} is a list of data for --data-path: name a file that it lists")
    if (place := head.find(0)) >= 0:
        raise UserError(
            f"{path} is no text: byte {place + 1:,} of its content is 0: name a text file (of"
            " UTF-16, convert it with iconv -f UTF-16 -t UTF-8)"
        )


def compression(head: bytes) -> str:
    """What a file with these first bytes is compressed with, or ""."""
    return next((name for mark, name in SQUEEZED.items() if head.startswith(mark)), "")


def decompressed(lower: Any, squeezed: str) -> Any:
    """What a compressed stream holds, by xopen; buffered, as `lower` is, and by readers that fill
    the buffer from as many streams as that takes.
    """
    upper: Any
    if squeezed == "bz2":
        upper = io.BufferedReader(_Streams(lower, bz2.BZ2Decompressor, b"BZh"))
    elif squeezed == "xz":
        begin = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)
        upper = io.BufferedReader(_Streams(lower, begin, b"\xfd7zXZ\0"))
    else:
        import xopen

        if squeezed == "gz":
            lower = io.BufferedReader(_Gzip(lower))
        upper = xopen.xopen(lower, "rb", threads=0, format=squeezed)
    return io.BufferedReader(upper, buffer_size=BLOCK)


class _Gzip(io.RawIOBase):
    """A gzip file, whose streams may be blocks of bgzip: where its last one is, only that of bgzip
    that is empty says that none is missing. Zeros behind it are padding.
    """

    def __init__(self, lower: Any) -> None:
        self._lower = lower
        self._tail = b""  # up to its last byte that is not 0
        self._zeros = 0  # behind that

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = int(self._lower.readinto(buffer))
        if data := bytes(buffer[:count]).rstrip(b"\0"):
            between = bytes(min(self._zeros, BGZIP_MOST))
            self._tail = (self._tail + between + data)[-BGZIP_MOST:]
            self._zeros = 0
        self._zeros += count - len(data)
        if not count and self._lacks_end():
            raise EOFError("bgzip's end mark is missing; unpacked, it is read as it is")
        return count

    def _lacks_end(self) -> bool:
        """Whether it ends with a block of bgzip that is another: a block knows its length, and may
        end with zeros itself.
        """
        for block in BGZIP_BLOCK.finditer(self._tail):
            missing = block.start() + int.from_bytes(block[1], "little") + 1 - len(self._tail)
            if 0 <= missing <= self._zeros:
                return self._tail[block.start() :] != BGZIP_END.rstrip(b"\0")
        return False


class _Streams(io.RawIOBase):
    """Streams of bzip2 or xz behind each other, with zeros as padding: Python's own readers leave
    out whatever else follows one, without a word.
    """

    def __init__(self, lower: Any, begin: Callable[[], Any], mark: bytes) -> None:
        """mark: what each begins with."""
        self._lower, self._begin, self._mark = lower, begin, mark
        self._stream = begin()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = block = b""
        while not data:
            if self._stream.eof:
                block = self._stream.unused_data.lstrip(b"\0")
                while not block:
                    if not (block := self._lower.read(BLOCK)):
                        return 0
                    block = block.lstrip(b"\0")
                if block[: len(self._mark)] != self._mark[: len(block)]:
                    raise EOFError("other bytes follow the end of a stream")
                self._stream = self._begin()
            elif self._stream.needs_input and not (block := self._lower.read(BLOCK)):
                raise EOFError("the end of a stream is missing")
            data = self._stream.decompress(block, len(buffer))
            block = b""
        buffer[: len(data)] = data
        return len(data)
