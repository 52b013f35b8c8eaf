"""The one exception for the user's mistakes; anything else is our fault and keeps its trace.

Raise it with one sentence that names the flag or variable, the value and the remedy:

    raise UserError("--seq-length 1000 does not divide by 3 tensor-parallel ranks: use 999 or 1002")
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_BAD_HOST = 69  # sysexits' EX_UNAVAILABLE: a host is at fault, and a chain leaves it out
EXIT_NO_ROOM = 73  # sysexits' EX_CANTCREAT: a disk is full, and a chain tries again
EXIT_STOPPED_EARLY = 75  # sysexits' EX_TEMPFAIL: stopped with a checkpoint to go on from


class UserError(Exception):
    """A request that cannot act: shown as one line, without traceback, with exit code 2."""

    exit_code = EXIT_USER_ERROR

    def __str__(self) -> str:
        """One line, whatever a name of the user's holds."""
        return "".join(c if c.isprintable() else "?" for c in super().__str__())


class FullDisk(UserError):
    """No room for what a run must write: one line as well, but no mistake that would repeat."""

    exit_code = EXIT_NO_ROOM


class Gone(UserError):
    """What a run wrote to was taken away from it: one line as well, and a failure."""

    exit_code = EXIT_FAILED


class BadNumbers(UserError):
    """A loss or weights with which no training goes on: one line as well, and a failure."""

    exit_code = EXIT_FAILED
