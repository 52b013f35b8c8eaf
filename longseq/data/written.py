"""What a command is about to write takes the place of nothing that it reads, nor of prepared data.

    check_written("--output genes.npy", [path, beside], {"is an input": files_of(["genes.fa"])})

Asked before anything is read, as most of what is destroyed cannot be had again.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from longseq.data.indexed.manifest import ENDINGS
from longseq.data.sources.inputs import expand
from longseq.data.sources.remote import is_url, local
from longseq.errors import UserError
from longseq.host.atomic_files import Name, same_files


def check_written(
    given: str, written: Iterable[Name], kept: Mapping[str, Iterable[Name]]
) -> None:  # fmt: skip
    """Refuse what would replace one of these. given: the flag and its value; kept: what files are,
    as in "is an input".
    """
    for what, files in kept.items():
        for path, other in same_files(written, files):
            called = "" if os.fspath(other) == os.fspath(path) else f" ({other})"
            raise UserError(f"{given} would replace {path}, which {what}{called}: name another")


def check_no_data(given: str, written: Iterable[Name]) -> None:
    """Refuse the name of a file that prepared data have, or may have, which is read as theirs."""
    for path in written:
        for name in (os.fspath(path), os.path.realpath(path)):
            for ending in ENDINGS:
                prefix = name.removesuffix(f".{ending}")
                if prefix != name and os.path.isfile(f"{prefix}.idx"):
                    raise UserError(
                        f"{given} would write {path}, a file of the prepared data {prefix}: name"
                        " another"
                    )


def files_of(names: Iterable[str]) -> list[Path]:
    """Every file that is read where these are given: files, folders, @LIST, prefixes of data."""
    found: list[str] = []
    for name in names:
        if os.path.exists(f"{name}.idx"):
            found += [f"{name}.{ending}" for ending in ENDINGS]
        elif not is_url(local(name)):
            found += expand([name]).files
    return [Path(name) for name in found]
