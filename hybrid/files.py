"""Writing files so that a reader finds the old one or the new one, never half of one."""

import contextlib
import csv
import io
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """A path whose ~ is the home folder; that of a file called ~x stays as it is."""
    return pathlib.Path(os.path.expanduser(path))  # Path.expanduser raises for the latter.


def file_state(path: str | os.PathLike) -> list[int] | None:
    """The size and the time of the last change of a file; None if none can be read there."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK):
            return [found.st_size, found.st_mtime_ns]
    return None


def visible(folder: pathlib.Path) -> list[str]:
    """The names of what is in a folder, sorted, but for those with a dot, such as .DS_Store."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith('.'))


def check_file(path: pathlib.Path) -> None:
    """Raises OSError, naming the flag --output, if a file cannot be written there."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f'--output={path}: there is no folder {path.parent}')
    if path.is_dir():
        raise IsADirectoryError(f'--output={path} is a folder; name a file in it')
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f'--output={path}: {path.parent} may not be written to')


def check_folder(path: pathlib.Path, flag: str = '--output') -> None:
    """Raises OSError, naming the flag, if a folder to write to is a file."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{flag}={path} is a file; name a folder')


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields the path `<path>.partial` to write to, which takes the place of `path` at the end.

    If the block raises, `path` stays as it was, and what has been written so far stays beside it.
    """
    path = pathlib.Path(path)
    partial = path.with_name(path.name + '.partial')
    yield partial
    partial.replace(path)


def replace(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file as a whole; text is written as UTF-8, with its line ends as they are."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def to_csv(*rows: Iterable[Any]) -> str:
    """Makes a table with commas and line ends as Unix has them, of a header and further rows."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue()


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON with sorted keys.

    Raises:
      TypeError: when the value cannot be written as JSON; the file is as it was then.
    """
    replace(path, json.dumps(value, indent=2, sort_keys=True) + '\n')


def read_json_lines(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Reads the objects of a file of JSON lines, but for lines that a crash left damaged."""
    rows = []
    for line in pathlib.Path(path).read_text(encoding='utf-8', errors='replace').splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
