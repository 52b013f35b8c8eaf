#!/usr/bin/env python3
"""What every rank runs, with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set.

mpiexec -n 2 sh ALCF/rank.sh python pretrain_gpt.py ARGUMENTS…     (see `longseq flags`)
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from longseq.config.arguments import UPSTREAM, Config
from longseq.config.checks import parse_config
from longseq.config.megatron import without_local_rank
from longseq.errors import EXIT_FAILED, UserError
from longseq.run.safety.abort import report, take_leave, tell_launcher
from longseq.run.safety.stopping import Stopper, end_time
from longseq.run.safety.watch import Watch
from longseq.run.stdio import exit_code, keep_output

ALONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
}


def main(argv: list[str]) -> int:
    """Train on this rank; the exit code is the launcher's."""
    # Both libraries warn of their own future on every rank, at import and once a collective.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    for name, alone in ALONE.items():
        os.environ.setdefault(name, alone)
    # One rank takes any port that is free: other runs may be on this host
    port = "0" if os.environ["WORLD_SIZE"] == "1" else "29500"
    os.environ.setdefault("MASTER_PORT", port)
    rank = int(os.environ["RANK"])
    keep_output()
    sys.excepthook = _failed  # until the log is open
    try:
        watch = Watch(Stopper(end_time(os.environ)))
        watch.start()  # now: the imports to come take seconds, and minutes on a cold disk
        world = int(os.environ["WORLD_SIZE"])
        argv = without_local_rank(argv, os.environ["LOCAL_RANK"])
        config = parse_config(argv, world)
        if config.run.run_dir:
            watch.listen(Path(config.run.run_dir), rank, world, config.run.hang_timeout)
        from longseq.engine.distributed import stop_distributed

        code = trainer(config.run.trainer)(config, watch)
        stop_distributed()
        watch.end()
        code = exit_code(code)
        if "mpi4py.MPI" in sys.modules:
            take_leave()
        return code
    except UserError as error:
        if rank:
            time.sleep(2)  # rank 0 has mostly met the same mistake, and one line is enough
        report(error.exit_code, f"longseq: {error}")
        tell_launcher(error.exit_code)
        return error.exit_code


def trainer(name: str) -> Callable[[Config, Watch], int]:
    """`train` of the trainer that was asked for."""
    if name == UPSTREAM:
        from longseq.upstream import start

        return start.train
    from longseq.training import loop

    return loop.train


def _failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    report(EXIT_FAILED, "".join(traceback.format_exception(kind, error, trace)))
    tell_launcher(EXIT_FAILED)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed. A thread of a process group was once seen to abort on the way out, which
    # would turn a run that ended well into a failure.
    os._exit(status)
