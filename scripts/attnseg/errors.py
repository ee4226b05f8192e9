"""Errors that a user can cause: one line that says what is wrong, where, and what to do."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input or the environment. Programs print it without a traceback."""


def run(main: Callable[[], int]) -> int:
    """The exit status of a program: a `UserError` becomes one line on stderr and status 1.

    What a job of the workflow costs is recorded (attnseg.io.costs).
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
            f"error: {error.filename}: may not be read or written; choose another folder (what a data "
            "set lacks is made in its root: link its folders into one of your own)",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again", file=sys.stderr)
        return 130
