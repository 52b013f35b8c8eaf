"""Objects behind a URL (http, s3, gs, …), by fsspec, and what may be shown of their names.

Who may read what is set up as each store's own package has it (its environment variables, its
files); nothing of that is read here, and a user, a password or a signature inside a URL never
reaches a message or a manifest.
"""

import re
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult, urlsplit

from longseq.errors import UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs",
    "hf": "huggingface_hub",
}  # fmt: skip
BUCKETS = ("s3", "s3a", "gs", "gcs")  # whose URLs have no place for a user
CUT = ("EOFError", "error", "BadGzipFile", "IsalError", "LZMAError", "ZstdError")  # decompressing
REQUEST = 1 << 23  # bytes asked for at once


def is_url(name: str) -> bool:
    return SCHEME.match(name) is not None


def local(url: str) -> str:
    """The file of this machine that a URL names; of another store the URL itself."""
    return re.sub("^(file|local)://", "", url)


def shown(name: str) -> str:
    """A name as it may be printed and kept: a URL without user, password, query and fragment."""
    if not is_url(name):
        return name
    parts = _parts(name)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise UserError(
            f"{url.partition(':')[0]}://…: no host is called so: mend the URL"
        ) from None


def open_url(url: str) -> BinaryIO:
    """A stream of the bytes behind a URL; UserError says what is missing."""
    try:
        store, path = _store(url)
        return cast(BinaryIO, store.open(path, "rb", block_size=REQUEST))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{shown(url)}: {trouble(error)}") from None


def matches(url: str) -> list[str]:
    """The URL itself, or what its * and ? match in a store that can list (not http)."""
    _parts(url)
    if url.startswith(("http://", "https://")) or not re.search(r"[*?\[]", url):
        return [url]
    try:
        store, path = _store(url)
        found = sorted(str(store.unstrip_protocol(name)) for name in store.glob(path))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{shown(url)}: {trouble(error)}") from None
    if not found:
        raise UserError(f"{shown(url)}: nothing there matches")
    return found


def _store(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it."""
    scheme = url.partition("://")[0].lower()
    if "::" in url:
        raise UserError(f"{scheme}://…: URLs joined by :: are not read: fetch the file first")
    if scheme in BUCKETS and "@" in _parts(url).netloc:
        raise UserError(
            f"{shown(url)}: a key in the URL does not count: set up access as the store's own tools"
            " have it"
        )
    from fsspec.core import url_to_fs

    try:
        return cast(tuple[Any, str], url_to_fs(url))
    except ImportError:
        package = PACKAGES.get(scheme, "fsspec's package for it")
        raise UserError(
            f"{shown(url)}: {scheme}:// needs {package}: pip install {package}"
        ) from None
    except ValueError:
        raise UserError(
            f"{shown(url)}: {scheme}:// is unknown: use http, https, s3 or gs, or fetch the file"
        ) from None


def trouble(error: Exception) -> str:
    """What went wrong, never in the words of the library: these may hold the whole URL."""
    cause = error.__cause__ or error
    status = getattr(cause, "status", 0)
    if status == 404 or isinstance(cause, FileNotFoundError):
        return "there is no such object: check the URL"
    if type(cause).__name__ == "NoSuchBucket":
        return "there is no such bucket: check the URL"
    if type(error).__name__ in CUT:
        return "is damaged or cut off: fetch it again"
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return "access refused: set up access as the store's own tools have it"
    if status:
        return f"the server answered {status}"
    return f"cannot be read ({type(cause).__name__}): try again, or fetch the file first"
