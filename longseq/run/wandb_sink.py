"""Weights & Biases, in a thread of its own: importing and starting it takes seconds, sending may
take longer.

Online where a key is set up (WANDB_API_KEY, or a line for the server in ~/.netrc), offline into
RUN/wandb without one (`longseq sync RUN` sends it later); WANDB_MODE decides where it is set. The
key is only ever read by wandb itself. The jobs of a chain are one run there: the first leaves its
name in the chain's folder. WANDB_RUN_GROUP and what else wandb reads act as always.
"""

import netrc
import os
import queue
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from longseq.errors import UserError

MODES = ("online", "offline", "shared", "disabled")
KEPT = ("report.html", "summary.json", "environment.json", "command.sh", "ds_config.json")
CLOSE_SECONDS = 60.0  # a hung network must not hold the job's nodes


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


def _key_in_netrc(environ: Mapping[str, str]) -> bool:
    server = urlsplit(environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
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
        path.write_text(uuid.uuid4().hex[:8] + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """wandb makes two folders at its import, which it removes at exit: our ranks leave without."""
    before = tempfile.tempdir
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


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
        self._settings = dict(settings)
        self._resume_after = resume_after
        self._records: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._exit_code = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="wandb", daemon=True)
        self._thread.start()

    def write(self, record: Mapping[str, Any]) -> None:
        if self._error is not None:
            raise self._error
        self._records.put(record)

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

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # told to the trainer at its next record
            self._error = error

    def _follow(self) -> None:
        own = self._folder / "wandb" / f"tmp-{os.getpid()}"
        # What is to be sent must stay with the run, not in the home folder
        os.environ.setdefault("WANDB_DATA_DIR", str(self._folder / "wandb" / "data"))
        try:
            with temporary_files_in(own):
                import wandb
            self._send(wandb)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _send(self, wandb: Any) -> None:
        options = wandb.Settings(
            console="off", silent=True, save_code=False, disable_git=True, x_disable_meta=True
        )
        run = wandb.init(config=self._settings, settings=options, **self._start)
        run.define_metric("*", step_metric="iteration")  # W&B's own step cannot go back
        try:
            while (record := self._records.get()) is not None:
                run.log(dict(record))
            self._keep_files(wandb, run)
        finally:
            run.finish(self._exit_code)
            wandb.teardown()  # ends the service process that wandb keeps

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
