"""Tasks encoded by several processes, in the order they came, a bounded number at a time.

By default as many as make it faster. Encoding nucleotides takes less time than handing them to
another process and taking them back, so that one process is fastest; genes and text are worth it.
So the first tasks are encoded here, and timed.
"""

import os
import pickle
import time
from collections.abc import Callable, Iterator

from longseq.data.prepare.encode import Encoder
from longseq.data.prepare.encoded import Result
from longseq.data.prepare.tasks import Task, Work
from longseq.errors import UserError

TRIED = 0.2  # seconds of encoding after which workers are thought of


def available_cores() -> int:
    """The cores this process may use, which on a shared node are not all that exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encode_all(
    tasks: Iterator[Task], encoder: Encoder, workers: int, more: Callable[[], float]
) -> Iterator[tuple[Task, Result]]:
    """Each task with its result, or with what is wrong with it; notes have none.

    The order, and so the output, is the same for any worker count. workers: 0 for what is fastest;
    more() says how many times what was read so far is still to come.
    """
    if workers == 0:
        trial = _Trial()
        for task in tasks:
            yield task, trial.encode(encoder, task)
            if trial.worth_it(more()):
                workers = available_cores()
                break
        else:
            return
    if workers <= 1:
        for task in tasks:
            yield task, _result(encoder, task)
        return
    from longseq.data.prepare.pool import encode_in_pool

    yield from encode_in_pool(tasks, encoder.recipe, workers)


class _Trial:
    """Times tasks that are encoded here, against what handing them to a worker would take."""

    def __init__(self) -> None:
        self.encoding = self.handing = 0.0
        self.start_up = time.process_time()  # what a worker's own imports will take
        self.cores = available_cores()

    def encode(self, encoder: Encoder, task: Task) -> Result:
        before = time.perf_counter()
        result = _result(encoder, task)
        self.encoding += time.perf_counter() - before
        if not self.handing and self.encoding > TRIED:  # once is enough: it grows with the task
            taken = time.perf_counter() - before
            before = time.perf_counter()
            pickle.loads(pickle.dumps((task, result), protocol=pickle.HIGHEST_PROTOCOL))
            self.handing = 2 * (time.perf_counter() - before) / max(taken, 1e-9)
        return result

    def worth_it(self, more: float) -> bool:
        """Whether workers win more time on what is left than they take to start.

        handing: what passing a task out and back takes this process, as a part of encoding it.
        """
        if self.cores < 2 or self.encoding < TRIED:
            return False
        left = self.encoding * more
        with_workers = left * max(self.handing, 1 / self.cores) + self.start_up
        return with_workers < left


def _result(encoder: Encoder, task: Task) -> Result:
    if not isinstance(task, Work):
        return None
    try:
        return encoder.encode(task)
    except UserError as error:
        return error
