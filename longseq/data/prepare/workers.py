"""Tasks encoded by several processes, in the order they came, a bounded number at a time."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from longseq.data.prepare.encode import Encoded, Encoder, Recipe, Stretch
from longseq.data.sources.chunks import Chunk
from longseq.errors import UserError

Task = Chunk | Stretch

_encoder: Encoder | None = None  # of a worker process


def available_cores() -> int:
    """The cores this process may use, which on a shared node are not all that exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encode_all(
    tasks: Iterator[Task], encoder: Encoder, workers: int
) -> Iterator[tuple[Task, Encoded]]:
    """Each task with its result; the order, and so the output, is the same for any worker count."""
    if workers <= 1:
        for task in tasks:
            yield task, encoder.encode(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (encoder.recipe,)) as pool:
        waiting: deque[tuple[Task, Future[Encoded]]] = deque()
        try:
            for task in tasks:
                waiting.append((task, pool.submit(_encode, task)))
                if len(waiting) > workers + 1:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            for _, future in waiting:
                future.cancel()


def _next(waiting: deque[tuple[Task, Future[Encoded]]]) -> tuple[Task, Encoded]:
    task, future = waiting.popleft()
    try:
        return task, future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker of 'longseq prepare' was killed, most likely for memory: use fewer --workers"
        ) from None


def _start_worker(recipe: Recipe) -> None:
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # our processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = Encoder(recipe)


def _end_with_parent() -> None:
    """A killed parent must not leave workers that wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(task: Task) -> Encoded:
    if _encoder is None:
        raise RuntimeError("the worker was not started")
    return _encoder.encode(task)
