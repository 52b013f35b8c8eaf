"""Runs one command on one core and says what it took: processor seconds, peak memory in MiB.

python -I -S benchmarks/measured.py COMMAND…     prints "SECONDS PEAK"; ends with its exit code

The kernel gives a new process the peak of the one that started it, until its own is higher. So the
commands are started from here, by a Python that has imported nothing, and not from a benchmark that
has just written files.
"""

import os
import sys


def main() -> int:
    quiet = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[quiet])
    _, status, usage = os.wait4(child, 0)
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
