"""What a bench has found, in its folder: a line of results.jsonl for each case that has ended.

    with Kept(folder, request) as kept:      # one bench at a time; raises UserError
        kept.found[case.key]                 # a Result of this or an earlier call
        kept.add(result)

A bench that was ended in any way goes on where it was, as long as the same is asked for.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file, unwritable

OK, OOM, REFUSED, FAILED, TIMED_OUT = "ok", "out of memory", "refused", "failed", "timed out"


@dataclass(frozen=True)
class Result:
    """What became of a case. Speeds are medians of the steps after the first; TFLOPS are a rank's,
    in Megatron's count and by the model alone; memory is rank 0's. reason: why it is not OK. host:
    where the bench itself ran, for who asks: any of the same kind will do.
    """

    key: str
    network: str
    kernel: str
    layout: str
    ranks: int
    length: int
    outcome: str
    reason: str = ""
    seconds: float | None = None
    tokens_per_sec: float | None = None
    tflops: float | None = None
    model_tflops: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None
    measured_gib: float | None = None
    wall_seconds: float = 0.0
    run: str = ""
    host: str = ""


class Kept:
    """The results in a folder, which it makes; held by one bench at a time."""

    def __init__(self, folder: Path, request: dict[str, Any]) -> None:
        """request: what every case has in common; other results cannot stand beside these."""
        self.folder, self.request = folder, request
        self.path = folder / "results.jsonl"
        self.found: dict[str, Result] = {}

    @property
    def steps(self) -> int:
        """Of each run, the first one with them."""
        return int(self.request["steps"]) + 1

    def __enter__(self) -> Kept:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._refuse_others()
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            text = f"--output {self.folder} cannot be written: {reason(error)}"
            raise unwritable(text, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"--output {self.folder} is in use by another bench: wait for it, or name another"
            ) from None
        self._compare()
        self._read()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self._lock.close()

    def _refuse_others(self) -> None:
        """A folder of somebody's own files, some of which may be called as ours are."""
        names = sorted(path.name for path in self.folder.iterdir())
        others = [name for name in names if name != "lock" and not name.startswith(".bench.json")]
        if others and "bench.json" not in names:
            raise UserError(
                f"--output {self.folder} holds {others[0]} and is of no bench: name a new folder"
            )

    def _compare(self) -> None:
        path = self.folder / "bench.json"
        if not path.exists():
            replace_file(path, json.dumps(self.request, indent=2) + "\n")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        differing = [name for name in self.request if before.get(name) != self.request[name]]
        if not (before.get("longseq") and self.request.get("longseq")):
            differing = [name for name in differing if name != "longseq"]  # not known of one
        if differing:
            name = differing[0]
            raise UserError(
                f"--output {self.folder} holds a bench with {name} {before.get(name)!r}, and this"
                f" one has {self.request[name]!r}: name another folder"
            )

    def _read(self) -> None:
        names = {field.name for field in fields(Result)}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        if text and not text.endswith("\n"):  # a line that a kill cut short
            replace_file(self.path, text[: text.rfind("\n") + 1])
        for line in text.splitlines():
            try:
                found = json.loads(line)
                result = Result(**{k: v for k, v in found.items() if k in names})
            except (ValueError, TypeError, AttributeError):
                continue
            self.found[result.key] = result

    def add(self, result: Result) -> None:
        """Keep what became of a case, at once."""
        self.found[result.key] = result
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
