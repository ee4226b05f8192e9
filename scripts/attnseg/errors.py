"""Errors that a user can cause: one line that says what is wrong, where, and what to do."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# what a file raises while it is taken apart that cannot be read, or holds something else
WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)


class UserError(Exception):
    """A mistake in the input or the environment. Programs print it without a traceback."""


class TemporaryError(UserError):
    """One that may have passed at the next attempt, as of the network."""


@contextmanager
def readable(where: object, advice: str) -> Iterator[None]:
    """Read a file of a user's: what its content raises is said in one line that names it."""
    try:
        yield
    except WRONG as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{where}: damaged or of another kind ({reason[:200]}); {advice}") from None


def one_line(message: object) -> str:
    """A message in which what is not printable, as line feeds and marks of direction in names, is
    escaped; of one that is very long, as by a name, the ends."""
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message)
    )
    return line if len(line) <= 2500 else f"{line[:2000]} ... {line[-400:]}"


class Ended(SystemExit):
    """SIGTERM has come, as a cluster sends it before a time limit."""

    def __init__(self, *_: object) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def sigterm_waits() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM wait for the end of the block, which asks whether it has come, to write a checkpoint
    first. One that comes 5 seconds after it or later does not wait: torchrun passes on the first, which a
    cluster sends to all.

    Raises:
        Ended: at the end of the block.
    """
    come = 0.0  # when

    def ask(*_: object) -> None:
        nonlocal come
        if come and time.monotonic() - come > 5:
            raise Ended
        come = come or time.monotonic()

    if threading.current_thread() is not threading.main_thread():  # no other gets signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: come > 0
    finally:
        signal.signal(signal.SIGTERM, before)
    if come:
        raise Ended


def run(main: Callable[[], int]) -> int:
    """Run a program and return its exit status; a `UserError` is printed in one line, with status 1.

    SIGTERM ends it in one line, too, with status 143: what is being written is removed, at the latest by the
    next run, where another process was at it.

    The cost of a job of the workflow is recorded (attnseg.io.costs). A job that an error of a user's
    has ended ends with it at once when the same run tries it again, as nothing has changed.
    """
    from attnseg.io.costs import job_log, record_of, recorded
    from attnseg.io.runs import earlier_error, keep_error

    log = job_log()
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, _end)
    try:
        if log and (message := earlier_error(log)):
            raise UserError(message)
        with recorded(sys.argv, log and record_of(log)):
            return main()
    except TemporaryError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except (UserError, PermissionError) as error:
        message = one_line(error)
        if isinstance(error, PermissionError):
            message = (
                f"{one_line(error.filename)}: no permission here; choose a writable folder (missing files of a "
                "data set are written to its root: link its folders into a root of your own)"
            )
        print(f"error: {message}", file=sys.stderr)
        if log:
            keep_error(log, message)
        return 1
    except Exception as error:  # safetensors and torch have errors of their own for a full disk
        if (reason := storage_problem(error)) is None:
            raise
        print(f"error: {one_line(reason)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; run the same command to resume", file=sys.stderr)
        return 130
    except Ended as end:
        print(
            "ended by SIGTERM: finished work is kept; run the same command to resume",
            file=sys.stderr,
        )
        return int(end.code or 0)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    raise Ended


def storage_problem(error: Exception) -> str | None:
    """What to do about a disk that takes no more, if that is what the error says."""
    place = getattr(error, "filename", None)
    where = f"{place}: " if place else ""
    for text, advice in (
        ("No space left on device", "the disk is full; free some space"),
        ("Disk quota exceeded", "your quota of the disk is used up; free some space"),
        ("Read-only file system", "the disk is read-only; choose another folder"),
    ):
        if text in str(error):
            return f"{where}{advice}, and run the same command: finished work is kept"
    return None


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more, for a line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
