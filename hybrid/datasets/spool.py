"""Bytes that are made once and needed again, too many for memory: a file without a name."""

import tempfile
import threading
from typing import NamedTuple

from etils import epath


class Place(NamedTuple):
    """Where bytes lie in a spool."""

    offset: int
    size: int


class Spool:
    """A temporary file that bytes are added to; it is gone once it is closed.

    Args:
      folder: Whose disk has room for it.
    """

    def __init__(self, folder: epath.PathLike):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._lock = threading.Lock()

    def close(self) -> None:
        """Removes the file; some systems rename no folder that has an open one."""
        self._file.close()

    def add(self, content: bytes) -> Place:
        """Writes bytes at the end."""
        with self._lock:
            place = Place(self._file.seek(0, 2), len(content))
            self._file.write(content)
            return place

    def read(self, place: Place) -> bytes:
        """Reads what was added; several threads may call it."""
        with self._lock:
            self._file.seek(place.offset)
            return self._file.read(place.size)
