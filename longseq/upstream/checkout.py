"""The checkout of Megatron-DeepSpeed: where it is, and whether it is the one that we know.

    checkout = checked(Path("megatron-deepspeed"))      # raises UserError

The package `megatron` and pretrain_gpt.py must be those of COMMIT, by git's own hash of their
content; a clone is told so and so is an unpacked archive, which has no .git to ask. What a build
leaves among the sources does not count. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from longseq.errors import UserError
from longseq.host.atomic_files import reason

REPOSITORY = "https://github.com/microsoft/Megatron-DeepSpeed"
COMMIT = "f4157bea69f3df8c6cb66f2ebcda66ba03d1288e"  # of 24 December 2024, its last
CONTENT = {
    "megatron": "11b8a3a84633adefa5e3e79e82446e77c9098d09",
    "pretrain_gpt.py": "88587d7e42719a53322643748fe9a1b980599c35",
}
GET = "./install.sh --megatron-deepspeed gets it, or set MEGATRON_DEEPSPEED_DIR to a checkout"
BUILT = ("__pycache__", "build")  # folders
BUILT_ENDS = (".so", ".pyc")


def checked(folder: Path) -> Path:
    """`folder` if it holds the code of COMMIT, absolute."""
    for name, wanted in CONTENT.items():
        path = folder / name
        if not path.exists():
            raise UserError(
                f"MEGATRON_DEEPSPEED_DIR={folder}: there is no {name}, so no checkout of"
                f" Megatron-DeepSpeed: {GET}"
            )
        try:
            found = content_hash(path)
        except OSError as error:
            raise UserError(
                f"MEGATRON_DEEPSPEED_DIR={folder} cannot be read: {reason(error)}"
            ) from None
        if found != wanted:
            raise UserError(
                f"MEGATRON_DEEPSPEED_DIR={folder}: its {name} is not that of commit {COMMIT[:7]},"
                f" the one that is known here: git checkout {COMMIT} there, or {GET}"
            )
    return folder.absolute()


def content_hash(path: Path) -> str:
    """What `git rev-parse COMMIT:path` gives for a file or a folder of this content."""
    found = _tree(path) if path.is_dir() else _object("blob", path.read_bytes())
    return found.hex()


def _tree(path: Path) -> bytes:
    """Mode, name and hash of each entry, in git's order, in which folders end with a slash."""
    entries = []
    for entry in os.scandir(path):
        if entry.is_symlink():
            mode, number = b"120000", _object("blob", os.readlink(entry.path).encode())
        elif entry.is_dir():
            if entry.name in BUILT:
                continue
            mode, number = b"40000", _tree(Path(entry.path))
        elif entry.name.endswith(BUILT_ENDS):
            continue
        else:
            executable = entry.stat().st_mode & 0o100
            mode = b"100755" if executable else b"100644"
            number = _object("blob", Path(entry.path).read_bytes())
        name = os.fsencode(entry.name)
        entries.append((name + b"/" * (mode == b"40000"), mode + b" " + name + b"\0" + number))
    return _object("tree", b"".join(text for _, text in sorted(entries)))


def _object(kind: str, content: bytes) -> bytes:
    head = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).digest()
