"""Tells damaged checkpoints from those that only cannot be read here and now."""

import errno
import os
import pathlib

# What keeps a whole checkpoint from being read: another attempt, or another machine, may read it.
_NOT_DAMAGE = (
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
)
# TensorStore and XLA say it in words only.
_NOT_DAMAGE_WORDS = (
    *('PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'),
    *('Permission denied', 'Too many open files', 'Cannot allocate memory', 'bad_alloc'),
)


class DamagedCheckpointError(RuntimeError):
    """A checkpoint, or a part of it, is not what was saved."""


def check_name(folder: pathlib.Path) -> None:
    """Raises ValueError for a folder that libraries in C++ cannot be told of."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        name = os.fsencode(folder).decode(errors='backslashreplace')
        raise ValueError(
            f'{name}: this name is no text in UTF-8, as it has to be for checkpoints. If it looks '
            'right elsewhere, the locale is to blame: set LC_ALL=C.UTF-8. Otherwise rename it'
        ) from None


def is_damage(error: BaseException) -> bool:
    """Whether an error of reading says that a file is not what was written."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return not any(
        isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno in _NOT_DAMAGE)
        or any(word in str(cause) for word in _NOT_DAMAGE_WORDS)
        for cause in causes
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error of Orbax says, at most 200 characters."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line.split('. See full')[0][:200]
