"""Reads UTKFace as it is published: the archive `UTKFace.tar.gz` or the folder `UTKFace/`."""

import csv
import gzip
import io
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

from hybrid.datasets import quarantine
from hybrid.datasets.image_sources import MAX_FILE_BYTES, is_unsafe
from hybrid.datasets.progress import ProgressBar

ARCHIVE = 'UTKFace.tar.gz'
FOLDER = 'UTKFace'
# Of all that an archive holds, which is kept in memory; UTKFace itself has a tenth of it.
MAX_TOTAL_BYTES = 2**30


def find_source(manual_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the archive, else the folder, else None."""
    archive, folder = manual_dir / ARCHIVE, manual_dir / FOLDER
    if archive.is_file():
        return archive
    return folder if folder.is_dir() else None


def read_files(source: pathlib.Path, dropped: quarantine.Quarantine) -> Iterator[tuple[str, bytes]]:
    """Yields (file name, content) of every regular file; what is refused goes to `dropped`.

    Nothing is written to disk, and a name's folders are not kept: the file name alone identifies a
    file.

    Args:
      source: the archive or the folder.
      dropped: gets links, unsafe paths, oversized files and repeated names.

    Raises:
      ValueError: the archive is truncated or damaged.
    """
    seen: set[str] = set()
    for path, content in _read_folder(source) if source.is_dir() else _read_archive(source):
        parts = pathlib.PurePosixPath(path).parts
        name = parts[-1] if parts else path
        if is_unsafe(path):
            dropped.drop(path, 'unsafe_path', 'absolute or with ..')
        elif content is None:
            dropped.drop(path, 'not_a_regular_file', 'a link, a device, or over 64 MiB')
        elif name in seen:
            dropped.drop(path, 'repeated_name')
        else:
            seen.add(name)
            yield name, content


def _read_folder(folder: pathlib.Path) -> Iterator[tuple[str, bytes | None]]:
    """Yields (path, content), content None for what is no regular file of a sane size."""
    paths = sorted(path for path in folder.rglob('*') if not path.is_dir())
    for path in ProgressBar(paths, f'reading {folder}', unit=' files'):
        regular = path.is_file() and path.stat().st_size <= MAX_FILE_BYTES
        yield f'{FOLDER}/{path.relative_to(folder)}', path.read_bytes() if regular else None


class _TooLargeError(Exception):
    """An archive unpacks to more than its memory is worth."""


class _Bounded(io.RawIOBase):
    """A stream that ends in an error after `MAX_TOTAL_BYTES`."""

    def __init__(self, stream: io.BufferedIOBase):
        self._stream = stream
        self._left = MAX_TOTAL_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _TooLargeError(f'it unpacks to more than {MAX_TOTAL_BYTES:,} bytes')
        return content


def _read_archive(archive: pathlib.Path) -> Iterator[tuple[str, bytes | None]]:
    """Yields (path, content), content None for what is no regular file of a sane size."""
    size = archive.stat().st_size
    try:
        with (
            archive.open('rb') as raw,
            ProgressBar.wrapattr(
                raw, 'read', size, desc=f'reading {archive}', unit='B', unit_divisor=1024
            ) as counted,
            # Not tarfile's own 'r|gz', which takes a truncated stream for the end of the archive.
            gzip.GzipFile(fileobj=counted) as unpacked,
            _Bounded(unpacked) as stream,
            tarfile.open(fileobj=stream, mode='r|') as tar,
        ):
            for member in tar:
                if member.isdir():
                    continue
                regular = member.isreg() and member.size <= MAX_FILE_BYTES
                file = tar.extractfile(member) if regular else None
                yield member.name, file.read() if file else None
            while unpacked.read(2**20):  # up to the checksum at the end
                pass
    except _TooLargeError as error:
        raise ValueError(f'{archive} is not UTKFace: {error}') from None
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise ValueError(
            f'{archive} ({size} bytes) is truncated or damaged ({error}): get it again'
        ) from error


def read_age_list(path: pathlib.Path) -> dict[str, float]:
    """Reads a published split, a CSV of `filename,age`.

    Args:
      path: `coral_split/train.csv` or `coral_split/test.csv`.

    Returns:
      file name -> age in years.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: other columns, an age that is no number, or a file listed twice.
    """
    if not path.exists():
        raise FileNotFoundError(
            f'{path} is missing: the config coral_21_60 reads the published split from '
            'coral_split/train.csv and coral_split/test.csv (filename,age) beside UTKFace'
        )
    ages: dict[str, float] = {}
    with path.open(newline='') as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ['filename', 'age']:
            raise ValueError(f'{path}: columns {reader.fieldnames}, expected filename,age')
        for row in reader:
            if row['filename'] in ages:
                raise ValueError(f'{path}, line {reader.line_num}: {row["filename"]} again')
            try:
                ages[row['filename']] = float(row['age'])
            except (TypeError, ValueError):
                raise ValueError(
                    f'{path}, line {reader.line_num}: age {row["age"]!r} is no number'
                ) from None
    return ages
