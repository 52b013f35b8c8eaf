"""A folder of checkpoints: which there are, which is the newest whole one, which may go.

    checkpoints/
      latest            "step-200", replaced, never rewritten
      owner.json        the run that writes here (owner.py)
      left-out.json     samples that are not trained on again (left_out.py)
      step-100/         manifest.json, vocabulary.json (the tokenizer), tensors of each rank
      step-200/
      step-300.tmp/     being written, or left by a killed run: removed by the next save

Standard library only: `longseq check` and `longseq checkpoint` look into it without torch.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from shlex import quote

from longseq.checkpoint.format.manifest import (
    NAME,
    Damaged,
    Manifest,
    blocks_of,
    check_blocks,
    check_names,
    read_manifest,
    tell_others,
)
from longseq.errors import UserError
from longseq.host.atomic_files import reason, remove, remove_folder, replace_file, replace_folder
from longseq.parallel.agreement import Ranks
from longseq.reports.runs import SUMMARY, nested, parse_record, read_json, run_of

POINTER = "latest"
THEIRS = "latest_checkpointed_iteration.txt"  # the same of Megatron-DeepSpeed
STEP = re.compile(r"step-(\d+)\Z")
ALONE = Ranks()


def find_latest(
    folder: Path,
    warn: Callable[[str], None],
    ranks: Ranks = ALONE,
    hashes: bool = True,
    asked: str = "",
    damaged: set[Path] | None = None,
) -> tuple[Path, Manifest]:
    """The newest checkpoint in `folder` that is whole (or `folder` itself, if it is one).

    The pointer says which is the newest; damaged ones are named through `warn` on rank 0 and the
    one before is tried, at last those that the run before had when this one went on from it: a
    chain must not end as its last job made but one. All ranks share the reading; without `hashes`
    only names and sizes are looked at. Raises UserError where there is none, which begins with
    `asked`: what the user gave, where that is not LOAD; then no other run's is meant; where
    `folder` is one, those beside it are offered. damaged: those passed over are added to it.
    """
    own: list[Path]
    before: list[Path]
    own, before, problem = ranks.gather(_all_candidates(folder) if ranks.rank == 0 else None)[0]
    candidates = own if asked else own + before
    for path in candidates:
        damage = verify(path, ranks, hashes)
        if damage is None:
            manifest = read_manifest(path)
            if ranks.rank == 0 and path not in own:
                warn(f"no checkpoint in {folder} is whole: {path} is taken, of a run before it")
            if ranks.rank == 0 and (others := tell_others(path, manifest)):
                warn(f"in {path}, which is whole: {others}")
            return path, manifest
        problem = f"checkpoint {path} is damaged: {damage}"
        if damaged is not None:
            damaged.add(path.resolve())
        if ranks.rank == 0:
            warn(problem)
    # Who names a checkpoint means that one: another is offered, and not taken
    named = candidates in ([folder], [folder.resolve()])
    offer = ranks.gather(_offer(candidates[0], asked) if named and ranks.rank == 0 else "")[0]
    problem += offer
    if asked:
        raise UserError(f"{asked}: {problem}")
    where = f"--load {folder} (LOAD or RESUME)"
    if not candidates:
        raise UserError(f"{where}: {problem}; leave it out for a first run")
    left = "" if offer else "; no whole checkpoint is left to go on from"
    raise UserError(f"{where}: {problem}{left}")


def _candidates(folder: Path) -> tuple[list[Path], str]:
    """Checkpoints in the order to try, and why there are none."""
    if (folder / NAME).exists():
        # Of a link from elsewhere: samples to leave out are beside what it names
        return [folder if (folder.parent / POINTER).exists() else folder.resolve()], ""
    if not folder.is_dir():
        return [], "no such folder"
    found = steps(folder)
    if not found and is_theirs(folder):
        return [], (
            "its checkpoints are Megatron-DeepSpeed's, of which"
            f" ./longseq.sh convert {quote(str(folder))} --output FOLDER makes one to go on from"
        )
    newest = _pointed(folder)
    if newest is None:
        newest = max(found, default=0)
    before = sorted((step for step in found if step <= newest), reverse=True)
    after = sorted(step for step in found if step > newest)
    return [found[step] for step in before + after], "it holds no checkpoint"


def _offer(path: Path, asked: str) -> str:
    """Which are whole beside a damaged one, their hashes unread, and what to give for the nearest
    before it; empty where none is.
    """
    found = steps(path.parent)
    at = next((step for step, one in found.items() if one.name == path.name), 0)
    order = sorted(found, key=lambda step: (step > at, abs(step - at)))
    beside = [found[step] for step in order if step != at and _looks_whole(found[step])]
    if not beside:
        return ""
    names = ", ".join(one.name for one in beside[:3]) + (", ..." if len(beside) > 3 else "")
    network = asked and not asked.startswith("--")  # that was given itself, and not by LOAD
    give = ("" if network else "LOAD=") + quote(str(beside[0]))
    return f"; whole beside it, by names and sizes: {names}: give {give}"


def _looks_whole(path: Path) -> bool:
    try:
        return verify(path, hashes=False) is None
    except UserError:  # an earlier version's
        return False


def _all_candidates(folder: Path) -> tuple[list[Path], list[Path], str]:
    """Those of `folder`; those of the runs that its own goes back to; why there are none."""
    own, problem = _candidates(folder)
    before: list[Path] = []
    seen = {folder.resolve()}
    # Who names one checkpoint means that one, and an empty folder is a mistake to be told of
    at = folder if own and not (folder / NAME).exists() else None
    first = sys.maxsize
    while at and (run := run_of(at)):
        first = min(first, _first_iteration(run, at))
        at = _went_on_from(run)
        if at is None or at.resolve() in seen:
            break
        seen.add(at.resolve())
        before += [path for path in _candidates(at)[0] if _step(path) < first]
    return own, before, problem


def _first_iteration(run: Path, folder: Path) -> int:
    """Where a run began: what the one before it did from there on is not of its training."""
    lines = run / "metrics.jsonl"
    with contextlib.suppress(OSError), lines.open(encoding="utf-8", errors="replace") as file:
        for record in filter(None, map(parse_record, file)):
            return int(record["iteration"])
    return min(steps(folder), default=sys.maxsize) if folder.is_dir() else sys.maxsize


def _step(path: Path) -> int:
    match = STEP.match(path.name.removesuffix(".replaced"))
    return int(match[1]) if match else 0  # a link that was named, and so what the run began with


def _went_on_from(run: Path) -> Path | None:
    """What --load named to a run."""
    summary = read_json(run / SUMMARY)
    load = nested(summary, "settings", "run", "load")
    return Path(str(summary.get("directory", "")), load) if load and isinstance(load, str) else None


def is_theirs(folder: Path) -> bool:
    """Has Megatron-DeepSpeed saved checkpoints in this folder?"""
    return (folder / THEIRS).is_file()


def steps(folder: Path) -> dict[int, Path]:
    """Folders of checkpoints by step; one being replaced counts while the new one is not there."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):  # step-2 comes before step-2.replaced
        if (match := STEP.match(path.name.removesuffix(".replaced"))) and path.is_dir():
            found.setdefault(int(match[1]), path)
    return found


def _pointed(folder: Path) -> int | None:
    try:
        match = STEP.match((folder / POINTER).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    return int(match[1]) if match else None


def verify(path: Path, ranks: Ranks = ALONE, hashes: bool = True) -> str | None:
    """What is wrong with a checkpoint, or None; the ranks share its blocks between them."""
    problem = None
    try:
        manifest = read_manifest(path)
        if ranks.rank == 0:
            check_names(path, manifest)
        if hashes:
            check_blocks(path, manifest, blocks_of(manifest)[ranks.rank :: ranks.size])
    except Damaged as damage:
        problem = str(damage)
    return next((text for text in ranks.gather(problem) if text), None)


def clean(folder: Path) -> list[str]:
    """Remove what killed runs left in the middle of a save, or a removal; what stays, and why."""
    left = [*folder.glob("step-*.tmp"), *folder.glob(".*.tmp")]
    left += [path for path in folder.glob("step-*.replaced") if path.with_suffix("").exists()]
    return _remove_each(sorted(left), remove)


def _remove_each(paths: Iterable[Path], how: Callable[[Path], None]) -> list[str]:
    """What stays, and why: no reason to keep the others, or to end a run."""
    stays = []
    for path in paths:
        try:
            how(path)
        except OSError as error:
            stays.append(f"{path} cannot be removed: {reason(error)}")
    return stays


def commit(folder: Path, step: int, manifest: Manifest) -> Path:
    """Make `step-N.tmp`, whose files are written, a checkpoint, and the newest one.

    The pointer goes first: one that points to nothing yet means the checkpoint before. A later one
    than it points to would mean that somebody has set it back, and a run that was killed in between
    could not go on.
    """
    final = folder / f"step-{step}"
    aside = folder / f"step-{step}.tmp"
    manifest.write(aside)
    replaced = final.with_name(final.name + ".replaced")
    replace_file(folder / POINTER, final.name + "\n")
    replace_folder(aside, final, replaced)  # a damaged one, or a step that is run again
    with contextlib.suppress(OSError):  # the next save tries again
        remove(replaced)
    return final


def forget(folder: Path, newest: int, keep_last: int, keep_every: int) -> list[str]:
    """Remove checkpoints up to `newest` but the last `keep_last` and each `keep_every`-th step;
    what stays of them, and why. 0 for keep_last keeps all.
    """
    if not keep_last:
        return []
    found = steps(folder)
    numbers = sorted(step for step in found if step <= newest)
    old = [n for n in numbers[:-keep_last] if not (keep_every and n % keep_every == 0)]
    return _remove_each(
        [found[number] for number in old],
        lambda path: remove_folder(path, path.with_name(path.name + ".tmp")),
    )
