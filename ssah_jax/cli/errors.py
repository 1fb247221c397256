"""What commands say and return when something is wrong."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

USER_ERROR = 2
"""Exit status of a mistake in arguments, configuration, files or workdir."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as that of shells."""

CLOSED_PIPE = 141
"""Exit status where nobody reads what is printed, as that of shells."""

_OURS = "ssah_jax."

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class UserError(Exception):
    """A mistake that the user can mend; its message is one line."""


@contextmanager
def setting_up() -> Iterator[None]:
    """Take a ValueError or an OSError as a mistake of the user's.

    For what happens before training: whatever raises later is a defect of ours, and
    keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(unbroken(error)) from error


def unbroken(error: BaseException | str) -> str:
    """A message without line breaks."""
    return " ".join(str(error).split())


def disk_trouble(error: BaseException | None) -> str:
    """What a disk said that is full, broken or read-only; empty if it was not that.

    Args:
        error: of anything; what it was raised from counts as well.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            where = os.fsdecode(error.filename) if error.filename else "disk"
            return f"{unbroken(where)}: cannot be written ({error.strerror})"
        error = error.__cause__ or error.__context__
    return ""


def told(error: BaseException) -> str:
    """What the user is to know of an error; empty if it is a defect of ours."""
    if isinstance(error, UserError):
        return unbroken(error)
    # Errors of our own classes are made for users, wherever they are raised.
    ours = isinstance(error, ValueError) and type(error).__module__.startswith(_OURS)
    return unbroken(error) if ours else disk_trouble(error)
