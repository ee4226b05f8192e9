"""Errors that a user can cause: one line that says what is wrong, where, and what to do."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input or the environment. Programs print it without a traceback."""


def run(main: Callable[[], int]) -> int:
    """Run a program and return its exit status; a `UserError` is printed in one line, with status 1.

    The cost of a job of the workflow is recorded (attnseg.io.costs).
    """
    from attnseg.io.costs import record_path, recorded

    try:
        with recorded(sys.argv, record_path()):
            return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"error: {error.filename}: no permission here; choose a writable folder (missing files of "
            "a data set are written to its root: link its folders into a root of your own)",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; run the same command to resume", file=sys.stderr)
        return 130
