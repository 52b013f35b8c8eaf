"""`tee -a FILE` for a disk that may be full for a while: python -I -S split_output.py FILE

What finds no room in the file, or nobody who reads it on the screen, is lost there alone, and the
next words are tried again; tee would give the file up for good. Standard library only, and none of
our own: it is started beside a rank, at once.
"""

import contextlib
import os
import sys

BLOCK = 1 << 16
LOST = b"\nlongseq: words are missing here, as there was no room\n"


def split(path: str, words_from: int = 0, screen: int = 1) -> None:
    """Copy what comes to the screen and to the end of the file, until the last writer has ended."""
    file, lost = -1, False
    while words := os.read(words_from, BLOCK):
        with contextlib.suppress(OSError):
            _put(screen, words)
        try:
            if file < 0:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            _put(file, LOST + words if lost else words)
            lost = False
        except OSError:
            lost = True


def _put(number: int, words: bytes) -> None:
    while words:
        words = words[os.write(number, words) :]


if __name__ == "__main__":
    split(sys.argv[1])
