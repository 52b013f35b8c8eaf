"""The worker processes of a preparation, imported where there are any."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.encoded import Encoded, Result
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.tasks import Task, Work
from longseq.errors import UserError

_encoder: Encoder | None = None  # of a worker process


def encode_in_pool(
    tasks: Iterator[Task], recipe: Recipe, workers: int
) -> Iterator[tuple[Task, Result]]:
    """Each task with its result, in their order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (recipe,)) as pool:
        waiting: deque[tuple[Task, Future[Encoded] | None]] = deque()
        try:
            for task in tasks:
                future = None
                if isinstance(task, Work):
                    with _ctrl_c_waits():  # the first ones start workers
                        future = pool.submit(_encode, task)
                waiting.append((task, future))
                if len(waiting) > workers + 1:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """No process that is started here gets Ctrl-C, which a terminal sends to all: this one ends
    them. They begin with this mask; a handler of their own would be set after their imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _next(
    waiting: deque[tuple[Task, Future[Encoded] | None]],
) -> tuple[Task, Result]:
    task, future = waiting.popleft()
    try:
        return task, None if future is None else future.result()
    except UserError as error:
        return task, error
    except BrokenProcessPool:
        raise UserError(
            "a worker of prepare was killed, most likely for memory: use fewer --workers"
        ) from None


def _start_worker(recipe: Recipe) -> None:
    global _encoder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = Encoder(recipe)


def _end_with_parent() -> None:
    """A killed parent must not leave workers that wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(task: Work) -> Encoded:
    if _encoder is None:
        raise RuntimeError("the worker was not started")
    return _encoder.encode(task)
