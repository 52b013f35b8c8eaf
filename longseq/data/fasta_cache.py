"""A FASTA file named by --data-path is prepared once and kept, by the digest of its content.

`ensure_prepared` is called by the check before the launch and again by every rank; when the data
are there it uses the standard library only. Two jobs may call it at once: each writes aside, one
rename wins, and the other takes what it finds.
"""

import os
import re
import shutil
from pathlib import Path

from longseq.config.megatron import mixture, weighted
from longseq.data.indexed.manifest import ENDINGS, check_sizes, read_manifest
from longseq.data.sources.remote import is_url, shown
from longseq.data.tokenizers.kinds import TYPE_FLAG, check_specification
from longseq.errors import UserError
from longseq.host.atomic_files import digest, make_aside, publish_folder, reason, unwritable

NAME = "tokens"
REMEDY = "set LONGSEQ_CACHE to a folder with room that you can write to"


def default_cache_folder() -> Path:
    """LONGSEQ_CACHE, else XDG's cache folder, else the home's, else one in /tmp for this user."""
    if folder := os.environ.get("LONGSEQ_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "longseq"
    home = os.environ.get("HOME")
    if home and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "longseq"
    return Path(f"/tmp/longseq-{os.getuid()}")


def prefix_of(path: str) -> str | None:
    """The prefix, when `path` names a prepared pair (with or without .bin or .idx); else None."""
    stem = path[:-4] if path.endswith((".bin", ".idx")) else path
    return stem if os.path.isfile(stem + ".idx") or os.path.isfile(stem + ".bin") else None


def ensure_prepared(
    path: str, cache_folder: Path | None = None, tokenizer: str = "nucleotide"
) -> str:
    """The prefix of the tokens of `path`: itself when it is prepared, else one in the cache."""
    if (prefix := prefix_of(path)) is not None:
        return prefix
    check_specification(tokenizer, TYPE_FLAG)
    source = check_source(path)
    try:
        key = digest(source)
    except OSError as error:
        raise _unreadable(path, error) from None
    name = "-".join(
        (re.sub(r"[^\w.]", "_", source.name)[:80], key[:16], tokenizer.replace(":", "_"))
    )
    target = (cache_folder or default_cache_folder()) / name
    if not _whole(target):
        _prepare(source, target, tokenizer)
    return str(target / NAME)


def check_source(path: str) -> Path:
    """The file that is to be prepared; raises UserError where it is none, or cannot be read."""
    if is_url(path):
        raise UserError(
            f"--data-path {shown(path)} (DATA_PATH) is a URL: './longseq.sh prepare' it and name"
            " its prefix"
        )
    source = Path(path)
    for ending in ENDINGS:
        prefix = path.removesuffix(f".{ending}")
        if prefix != path and prefix_of(prefix) is not None:
            raise UserError(
                f"--data-path {path} (DATA_PATH) is a file of the prepared data {prefix}: name"
                f" {prefix}"
            )
    if source.is_dir():
        raise UserError(
            f"--data-path {path} (DATA_PATH) is a folder: run ./longseq.sh prepare {path} --output"
            " PREFIX"
        )
    try:
        with open(source, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if empty:
        raise UserError(
            f"--data-path {path} (DATA_PATH) is empty: name a FASTA file or a prepared prefix"
        )
    return source


def _unreadable(path: str, error: OSError) -> UserError:
    words = path.split()
    if weighted(words) and isinstance(error, FileNotFoundError):
        return UserError(f"--data-path {path!r} (DATA_PATH) is no file: {mixture(words)}")
    return UserError(
        f"--data-path {path} (DATA_PATH): {error.strerror}: name a FASTA file or a prefix made by"
        " ./longseq.sh prepare"
    )


def _whole(target: Path) -> bool:
    """Whether the cache holds a pair at its full length; a damaged one is put out of the way."""
    if not target.is_dir():
        return False
    try:
        manifest = read_manifest(str(target / NAME))
        if manifest is not None:
            check_sizes(str(target / NAME), manifest)
            return True
    except UserError:
        pass
    shutil.rmtree(target, ignore_errors=True)
    return False


def _prepare(source: Path, target: Path, tokenizer: str) -> None:
    """Imports numpy, here because a check that finds the data prepared does without."""
    from longseq.data.prepare.job import quiet, write_tokens
    from longseq.data.prepare.recipe import Recipe
    from longseq.data.prepare.settings import Settings
    from longseq.data.sources.inputs import Inputs

    aside = make_aside(target, REMEDY)
    try:
        settings = Settings(Recipe(tokenizer))
        manifest = write_tokens(Inputs((str(source),)), str(aside / NAME), settings, quiet)
        if f"-{manifest.sources[0]['sha256'][:16]}-" not in target.name:
            raise UserError(
                f"--data-path {source} (DATA_PATH) changed while it was read: start again once it"
                " is whole"
            )
        try:
            publish_folder(aside, target)
        except OSError:
            if not _whole(target):  # another job was faster, or else something is wrong
                raise
    except OSError as error:
        raise unwritable(f"{target.parent}: {reason(error)}: {REMEDY}", error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
