"""Reads the files of UTKFace from a folder or an archive, and the lists of a published split."""

import contextlib
import csv
import gzip
import io
import pathlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from hybrid.datasets import origin, quarantine
from hybrid.datasets.image_sources import (
    MAX_FILE_BYTES,
    Folder,
    RefusedError,
    is_hidden_by_macos,
    is_image,
    is_unsafe,
    list_files,
)
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.utkface import layouts

# Of all that an archive holds, which is kept in memory; UTKFace itself has a tenth of it.
MAX_TOTAL_BYTES = 2**30

_Files = Iterator[tuple[str, bytes | None]]


def read_files(
    source: layouts.Source, dropped: quarantine.Quarantine, made_from: origin.Origin
) -> Iterator[tuple[str, bytes]]:
    """Yields (file name, content) of every regular file; what is refused goes to `dropped`.

    Nothing is written to disk, and a name's folders are not kept: the file name alone identifies a
    file.

    Args:
      source: From `layouts.find_source`.
      dropped: gets links, unsafe paths, oversized files and repeated names.
      made_from: Gets the archive, or the images.

    Raises:
      ValueError: the archive is truncated or damaged, or no archive of a kind that is read.
    """
    seen: set[str] = set()
    if source.path.is_dir():
        files = _read_folder(source, made_from)
    else:
        made_from.add_archive(source.path)
        files = _read_archive(source.path)
    for path, content in files:
        parts = pathlib.PurePosixPath(path).parts
        name = parts[-1] if parts else path
        if is_hidden_by_macos(name):
            continue
        if is_unsafe(path):
            dropped.drop(path, 'unsafe_path', 'absolute or with ..')
        elif content is None:
            dropped.drop(path, 'not_a_regular_file', 'a link, a device, or over 64 MiB')
        elif name in seen:
            dropped.drop(path, 'repeated_name')
        else:
            seen.add(name)
            yield name, content


def _read_folder(source: layouts.Source, made_from: origin.Origin) -> _Files:
    """Yields (path, content), content None for what is no regular file of a sane size."""
    root = source.path
    paths = [path for path in list_files(root, source.below) if source.below or is_image(path)]
    folder = Folder(root, confined=False)
    for path in ProgressBar(paths, f'reading {root}', unit=' files'):
        name = path.relative_to(root).as_posix()
        content = None
        with contextlib.suppress(RefusedError):
            content = folder.read(name)
        yield f'{layouts.FOLDER}/{name}', content
    seen = {name: what for name, what in folder.seen.items() if is_image(name)}
    made_from.add_images(root, seen, listed='tree' if source.below else 'folder')


def _read_archive(archive: pathlib.Path) -> _Files:
    """Reads an archive of the kind that its first bytes tell."""
    with archive.open('rb') as file:
        start = file.read(4)
    if start.startswith(b'<'):
        raise ValueError(f'{archive} is a web page, not an archive: get it again')
    if start == b'PK\3\4':
        return _read_zip(archive)
    return _read_tar(archive, compressed=start.startswith(b'\x1f\x8b') or not start)


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


def _read_zip(archive: pathlib.Path) -> _Files:
    """Yields (path, content); of several folders only `UTKFace`, where there is one.

    Kaggle's copy has the same images in several folders.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [
                (member.filename.replace('\\', '/'), member)
                for member in file.infolist()
                if not member.is_dir() and not member.filename.startswith('__MACOSX/')
            ]
            wanted = f'/{layouts.FOLDER}/'
            before = {
                f'/{name}'.partition(wanted)[0] for name, _ in members if wanted in f'/{name}'
            }
            if before:
                chosen = min(before, key=len) + wanted
                members = [(name, m) for name, m in members if f'/{name}'.startswith(chosen)]
            if sum(member.file_size for _, member in members) > MAX_TOTAL_BYTES:
                raise _TooLargeError(f'it unpacks to more than {MAX_TOTAL_BYTES:,} bytes')
            for name, member in ProgressBar(members, f'reading {archive}', unit=' files'):
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise NotImplementedError('it is compressed neither by deflate nor not at all')
                regular = not stat.S_ISLNK(member.external_attr >> 16)
                regular &= member.file_size <= MAX_FILE_BYTES
                content = None
                if regular:
                    with file.open(member) as opened:  # No more than that is unpacked.
                        content = opened.read(member.file_size)
                yield name, content
    except _TooLargeError as error:
        raise ValueError(f'{archive} is not UTKFace: {error}') from None
    except (EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f'{archive} is truncated, damaged or of an unknown kind ({error}): get it again, '
            'or extract it'
        ) from error


def _read_tar(archive: pathlib.Path, compressed: bool) -> _Files:
    """Yields (path, content), content None for what is no regular file of a sane size."""
    size = archive.stat().st_size
    try:
        with (
            archive.open('rb') as raw,
            ProgressBar.wrapattr(
                raw, 'read', size, desc=f'reading {archive}', unit='B', unit_divisor=1024
            ) as counted,
            # Not tarfile's own 'r|gz', which takes a truncated stream for the end of the archive.
            (
                gzip.GzipFile(fileobj=counted) if compressed else contextlib.nullcontext(counted)
            ) as unpacked,
            _Bounded(unpacked) as stream,
            tarfile.open(fileobj=stream, mode='r|') as tar,
        ):
            for member in tar:
                if member.isdir():
                    continue
                regular = member.isreg() and not member.issparse()
                regular &= member.size <= MAX_FILE_BYTES
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


def read_coral_split(
    manual_dir: pathlib.Path, made_from: origin.Origin
) -> dict[str, dict[str, float]]:
    """Returns the published split: `train` and `test`, each file name -> age in years.

    Args:
      manual_dir: Holds `coral_split`.
      made_from: Gets the two lists.

    Raises:
      FileNotFoundError, ValueError: a list is missing or damaged, or a file is in both.
    """
    published = {}
    for split in ('train', 'test'):
        path = manual_dir / 'coral_split' / f'{split}.csv'
        published[split] = read_age_list(path)
        made_from.add_table(path)
    if both := published['train'].keys() & published['test'].keys():
        raise ValueError(f'{manual_dir}/coral_split: {min(both)} is in train.csv and test.csv')
    return published
