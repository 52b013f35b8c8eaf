"""How far a preparation is, for the same command to go on from after a kill.

What is whole is a place between two records: the size of each growing file there, and the counts.
The digest of the recipe and the sizes and times of the files that were read say whether it still
stands; where only the file under way changed, that file is read again.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from longseq.data.prepare.settings import Settings
from longseq.data.prepare.text import Unknown
from longseq.data.sources.identity import identity
from longseq.data.sources.remote import is_url
from longseq.host.atomic_files import Sha256, replace_file

STATE = "state.json"
SOURCES = "sources.jsonl"  # a line for each file that was read to its end
FORMAT = 3  # 1: files were cut into other pieces; 2: texts without tokens were documents
SAVE_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Mark:
    """A place between two records. sizes: of each growing file, by its name's ending.

    plain: so far each document is a record, read forward.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    records: int = 0
    largest: int = 0
    plain: bool = True
    counts: dict[str, int] = field(default_factory=dict)
    unknown: Unknown | None = None


@dataclass(frozen=True)
class Progress:
    """files: how many were read to their end. start: the mark before the file under way, whose
    identity this is; pieces: how many of its pieces are in `whole`, the mark after them.
    """

    fingerprint: str
    files: int = 0
    start: Mark = field(default_factory=Mark)
    identity: str = ""
    pieces: int = 0
    whole: Mark = field(default_factory=Mark)


def fingerprint(settings: Settings, files: Mapping[str, bytes]) -> str:
    """Digest of everything that the tokens depend on, beside the inputs.

    files: what a tokenizer of text is made from, and what was learnt from the inputs.
    """
    digests = {name: Sha256(raw).hexdigest() for name, raw in files.items()}
    recipe = asdict(settings.recipe)
    if "tokenizer.json" in files:  # wherever it lies
        recipe["tokenizer"] = recipe["tokenizer"].partition(":")[0]
    columns = asdict(settings.columns)
    surveys = [settings.train_tokenizer, settings.drop_duplicates, settings.group_by]
    parts = [FORMAT, recipe, surveys, settings.chunk, columns, digests]
    if settings.recipe.weighted:  # another version may weigh the same letters otherwise
        parts.append(Sha256(settings.recipe.weight_table()).hexdigest())
    return Sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace what an earlier call of this wrote."""
    replace_file(folder / STATE, json.dumps(asdict(progress)))


def find_progress(
    prefix: str, wanted: str, paths: tuple[str, ...], skip_bad: bool
) -> Progress | None:
    """What an earlier preparation of the same left; None where nothing of it stands."""
    progress = _read(Path(prefix).parent / STATE)
    if progress is None or progress.fingerprint != wanted:
        return None
    done = read_sources(f"{prefix}.{SOURCES}", progress.start.sizes.get(SOURCES, 0))
    if len(done) != progress.files or len(done) > len(paths):
        return None
    for entry, path in zip(done, paths, strict=False):
        known = entry["identity"] and entry["identity"] == identity(path)
        if not known or ("reason" in entry and not skip_bad):
            return None
    following = paths[len(done)] if len(done) < len(paths) else ""
    same = progress.identity and progress.identity == identity(following)
    if not same or is_url(following):
        progress = replace(progress, identity="", pieces=0, whole=progress.start)
    there = all(
        os.path.exists(path := f"{prefix}.{ending}") and os.path.getsize(path) >= size
        for ending, size in progress.whole.sizes.items()
    )
    return progress if progress.whole.sizes and there else None


def read_sources(path: str, size: int) -> list[dict[str, Any]]:
    """What is known of each file that was read to its end, from so many bytes of SOURCES."""
    try:
        with open(path, "rb") as file:
            return [json.loads(line) for line in file.read(size).splitlines()]
    except (OSError, ValueError):
        return []


def _read(path: Path) -> Progress | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {name: _mark(values[name]) for name in ("start", "whole")}
        return Progress(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _mark(values: dict[str, Any]) -> Mark:
    unknown = values.pop("unknown")
    return Mark(**values, unknown=Unknown(**unknown) if unknown else None)
