"""Weights & Biases, in a thread of its own: importing and starting it takes seconds, sending may
take longer.

Online where a key is set up (WANDB_API_KEY, or a line for the server in ~/.netrc), offline into
RUN/wandb without one, or where the server does not take the run (`longseq sync RUN` sends it
later); WANDB_MODE decides where it is set. The key is only ever read by wandb itself. The jobs of
a chain are one run there: the first leaves its name in the chain's folder. WANDB_RUN_GROUP and
what else wandb reads act as always.
"""

import netrc
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from longseq.errors import UserError
from longseq.host.atomic_files import replace_file

MODES = ("online", "offline", "shared", "disabled")
KEPT = ("report.html", "summary.json", "environment.json", "command.sh", "ds_config.json")
CLOSE_SECONDS = 60.0  # a hung network must not hold the job's nodes
ROOM = 1 << 16  # bytes; its file grows by blocks of half of that
INIT_SECONDS = "30"  # for the server's first answer; less than that


def wandb_mode(environ: Mapping[str, str] = os.environ) -> str:
    """`online`, `offline`, `shared` or `disabled`. Raises UserError for another WANDB_MODE."""
    mode = environ.get("WANDB_MODE", "").strip().lower()
    if mode in ("dryrun", "dry-run"):
        mode = "offline"
    if mode:
        if mode not in MODES:
            raise UserError(f"WANDB_MODE={mode!r} is not one of {', '.join(MODES)}")
        return mode
    if environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "t", "yes"):
        return "disabled"
    return "online" if environ.get("WANDB_API_KEY") or _key_in_netrc(environ) else "offline"


def for_wandb(mode: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment as wandb takes it: an empty variable, which is not set to us, fails there."""
    kept = {k: v for k, v in environ.items() if v or not k.startswith("WANDB_")}
    return kept | {"WANDB_MODE": mode}


def address(environ: Mapping[str, str] = os.environ) -> str:
    """The server's."""
    return environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def _key_in_netrc(environ: Mapping[str, str]) -> bool:
    server = urlsplit(address(environ)).hostname or ""
    path = Path(environ.get("NETRC") or Path(environ.get("HOME", "~")).expanduser() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(server) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def chain_id(environ: Mapping[str, str] = os.environ) -> str | None:
    """The W&B run of the chain of jobs that this one belongs to; None outside of one."""
    if not environ.get("LONGSEQ_JOB"):
        return None
    path = Path(environ["LONGSEQ_JOB"]) / "wandb-run.txt"
    if not path.exists():
        replace_file(path, uuid.uuid4().hex[:8] + "\n")
    return path.read_text(encoding="ascii").strip()


@contextmanager
def kept_apart(folder: Path) -> Iterator[None]:
    """wandb makes two folders at its import, which it removes at exit: our ranks leave without. For
    its service's start it makes another, which stays where the run is killed then; and it puts a
    hook before ours, which prints the traceback of an error that is a consequence as well.
    """
    before, hook = tempfile.tempdir, sys.excepthook
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir, sys.excepthook = before, hook


class Told(Exception):
    """What a sink has to say while it goes on."""


class WandbSink:
    """Hands records to a thread that owns the W&B run."""

    def __init__(
        self,
        folder: Path,
        project: str,
        mode: str,
        settings: Mapping[str, Any],
        resume_after: int = 0,
    ) -> None:
        self._start: dict[str, Any] = {
            "project": project,
            "name": folder.name,
            "dir": str(folder),
            "mode": mode,
        }
        if run_id := chain_id():
            self._start |= {"id": run_id, "resume": "allow"}
        self._folder = folder
        self._own = folder / "wandb" / f"tmp-{os.getpid()}"
        self._settings = dict(settings)
        self._resume_after = resume_after
        self._records: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._exit_code = 0
        self._error: Exception | None = None
        self._said = ""  # once, to whoever writes next
        self._logged = 0  # bytes
        self._full = False  # the disk has been, and that was said
        self._thread = threading.Thread(target=self._run, name="wandb", daemon=True)
        self._thread.start()

    def write(self, record: Mapping[str, Any]) -> None:
        if self._error is not None:
            raise self._error
        self._records.put(record)
        if self._said:
            self._said, said = "", self._said
            raise Told(said)

    def add_to_last(self, record: Mapping[str, Any]) -> None:
        self.write(record)

    def go_back(self, iteration: int) -> None:
        """Nothing: W&B forgets no record, and draws both of an iteration."""

    def close(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._records.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(
                f"not finished after {CLOSE_SECONDS:.0f} s; `wandb sync` sends the rest"
            )
        if self._said:
            raise Told(self._said)

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # told to the trainer at its next record
            self._error = error

    def _follow(self) -> None:
        given = for_wandb(self._start["mode"])
        for name in set(os.environ) - set(given):
            del os.environ[name]
        os.environ.update(given)
        os.environ.setdefault("WANDB_SILENT", "true")  # its settings come after its first line
        os.environ.setdefault("WANDB_INIT_TIMEOUT", INIT_SECONDS)
        # What is to be sent must stay with the run, not in the home folder
        os.environ.setdefault("WANDB_DATA_DIR", str(self._folder / "wandb" / "data"))
        # Its service logs to a cache, which is in the home folder; without one, to the screen
        os.environ.setdefault("WANDB_CACHE_DIR", str(self._own))
        try:
            with kept_apart(self._own):
                import wandb

                wandb.setup()
            try:
                self._send(wandb)
            finally:  # ends its service; one that was killed Python's exit would tell of at length
                wandb.teardown()
            self._look_for_records()
        finally:
            shutil.rmtree(self._own, ignore_errors=True)

    def _send(self, wandb: Any) -> None:
        options = wandb.Settings(
            console="off", silent=True, save_code=False, disable_git=True, x_disable_meta=True
        )
        run = self._open(wandb, config=self._settings, settings=options)
        run.define_metric("*", step_metric="iteration")  # W&B's own step cannot go back
        try:
            while (record := self._records.get()) is not None:
                run.log(dict(record))
                self._logged += len(repr(record))
                self._look_for_room()
            if not self._full:
                self._keep_files(wandb, run)
        finally:
            run.finish(self._exit_code)

    def _look_for_room(self) -> None:
        """Its service drops what it cannot write, from then on all, and tells its log alone."""
        disk = os.statvfs(self._folder)
        if not self._full and disk.f_blocks and disk.f_bavail * disk.f_frsize < ROOM:
            self._tell_full("no space left")

    def _look_for_records(self) -> None:
        """Of a quota the file system may have said nothing; names and numbers stand in the file
        as they are.
        """
        files = (self._folder / "wandb").glob("*run-*/*.wandb")
        if not self._full and sum(path.stat().st_size for path in files) < self._logged // 2:
            self._tell_full("its file is short (a full disk? a quota?)")

    def _tell_full(self, why: str) -> None:
        self._full = True
        self._said = (
            f"{self._folder / 'wandb'}: {why}: Weights & Biases loses records from here on;"
            " metrics.jsonl keeps all"
        )

    def _open(self, wandb: Any, **how: Any) -> Any:
        """The run of W&B: on its server, or offline where that does not take it."""
        try:
            return wandb.init(**self._start, **how)
        except Exception as error:
            if self._start["mode"] == "offline":
                raise
            why = " ".join(str(error).split()) or type(error).__name__
            self._said = (
                f"Weights & Biases at {address()}: {why}: recorded offline;"
                f" ./longseq.sh sync {self._folder} sends it later"
            )
            wandb.teardown()
            with kept_apart(self._own):
                wandb.setup()
            return wandb.init(**self._start | {"mode": "offline"}, **how)

    def _keep_files(self, wandb: Any, run: Any) -> None:
        """The report, how the run was set, and the newest checkpoint's manifest, as an artifact."""
        manifests = self._folder.glob("checkpoints/step-*/manifest.json")
        newest = max(manifests, key=lambda path: path.stat().st_mtime, default=None)
        files = [self._folder / name for name in KEPT]
        found = [path for path in (*files, newest) if path is not None and path.is_file()]
        if not found:
            return
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", self._folder.name)[:120]
        artifact = wandb.Artifact(name, type="run")
        for path in found:
            artifact.add_file(str(path), skip_cache=True)
        run.log_artifact(artifact)
