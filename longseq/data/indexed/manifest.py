"""PREFIX.json, beside PREFIX.bin and PREFIX.idx: what they hold, how they were made, and their
digests.

Standard library only: the check before a launch reads it.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from longseq.errors import UserError
from longseq.host.atomic_files import digest, sync_open

ENDINGS = (  # of all files that prepared data may have
    *("bin", "idx", "json", "records.tsv", "documents.tsv", "duplicates.tsv", "places", "reaches"),
    *("groups", "group_of", "weights"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tags.json"),
)
FORMAT = 2  # 1: without places of documents, names of records and weights; it is read too


@dataclass(frozen=True)
class DatasetManifest:
    """files: name's ending → {"bytes", "sha256"}; counts: what was read, written and left out.

    skipped: bad files that were left out, "path" and "reason". weights: what a token may count for
    in the loss; PREFIX.weights has the place in this list of each token's.
    """

    tokenizer: str
    vocab_size: int
    end_of_document: int
    num_tokens: int
    num_documents: int
    largest_token: int
    files: dict[str, dict[str, Any]]
    counts: dict[str, int] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    weights: list[float] = field(default_factory=lambda: [1.0])
    format: int = FORMAT


def manifest_path(prefix: str) -> Path:
    return Path(f"{prefix}.json")


def write_manifest(prefix: str, manifest: DatasetManifest) -> None:
    """Write and flush to the disk; the caller's folder is not visible under its final name yet."""
    with open(manifest_path(prefix), "w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.write("\n")
        sync_open(file)


def read_manifest(prefix: str) -> DatasetManifest | None:
    """The manifest, or None where there is none: data made by another program."""
    path = manifest_path(prefix)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): prepare the data again") from None
    if not isinstance(values, dict) or values.get("format") not in (1, FORMAT):
        raise UserError(f"{path} is not a manifest of this version: prepare the data again")
    try:
        manifest = DatasetManifest(**values)
    except TypeError:
        raise UserError(f"{path} lacks or misnames a field: prepare the data again") from None
    if wrong := _misfit(manifest):
        raise UserError(f"{path}: {wrong} is not what it was written as: prepare the data again")
    return manifest


def _misfit(manifest: DatasetManifest) -> str:
    """The first field that holds another type than it is declared with, or ""."""
    for name, kind in get_type_hints(DatasetManifest).items():
        if not _fits(getattr(manifest, name), kind):
            return name
    facts = ({"bytes": "", "sha256": 0, **file} for file in manifest.files.values())
    known = all(_fits(one["bytes"], int) and _fits(one["sha256"], str) for one in facts)
    return "" if known else "files"


def _fits(value: Any, kind: Any) -> bool:
    outer, inner = get_origin(kind), get_args(kind)
    if outer is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if outer is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    return kind is Any or type(value) in ((int, float) if kind is float else (kind,))


def check_sizes(prefix: str, manifest: DatasetManifest) -> None:
    """Every file the manifest names is there, at its length."""
    for ending, facts in manifest.files.items():
        path = f"{prefix}.{ending}"
        try:
            size = os.stat(path).st_size
        except OSError:
            raise UserError(f"{path} is missing: prepare the data again") from None
        if size != facts["bytes"]:
            raise UserError(
                f"{path} has {size} bytes where its manifest says {facts['bytes']}: prepare the"
                " data again"
            )


def check_digests(prefix: str, manifest: DatasetManifest) -> None:
    """Every file the manifest names has the bytes that were written."""
    check_sizes(prefix, manifest)
    for ending, facts in manifest.files.items():
        path = f"{prefix}.{ending}"
        if digest(path) != facts["sha256"]:
            raise UserError(f"{path} was changed since it was prepared: prepare the data again")
