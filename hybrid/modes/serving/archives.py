"""Photographs in a zip file, read in memory one after the other; nothing is ever extracted."""

import io
import pathlib
import stat
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from hybrid.datasets.image_sources import EXTENSIONS

MOST_ENTRIES = 1000
MOST_BYTES = 100 * 2**20  # Of one entry, unpacked.
MOST_BYTES_TOGETHER = 2 * 2**30
_ARCHIVES = ('.zip', '.tar', '.gz', '.tgz', '.bz2', '.xz', '.zst', '.7z', '.rar', '.jar', '.cbz')
_DIRECTORY_ENTRY = b'PK\x01\x02'
_ENCRYPTED = 1  # A bit of the flags of an entry.
# Others zipfile unpacks as a whole, however much that is, before it looks at what it was asked for.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Entry(NamedTuple):
    """A file of a zip: its name, and its content or why that is not read."""

    name: str
    content: bytes
    error: str


def open_zip(content: bytes) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """Opens a zip, and lists what a table of its photographs has rows of.

    These are images, by their extension, and what is refused: links, archives in the archive, and
    encrypted files. Folders, hidden files and whatever else there is are passed over.

    Raises:
      ValueError: when it is no zip, holds too much, or nothing of use; says so in a sentence.
    """
    # Before anything is made of each entry. Photographs hold these bytes once in 4 GB.
    if content.count(_DIRECTORY_ENTRY) > MOST_ENTRIES + 100:
        raise ValueError(f'The zip has more than the {MOST_ENTRIES:,} entries that are read.')
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise ValueError('This is no zip file, or a damaged one.') from None
    if len(entries) > MOST_ENTRIES:
        raise ValueError(
            f'The zip has {len(entries):,} entries, more than the {MOST_ENTRIES:,} that are read.'
        )
    total = sum(entry.file_size for entry in entries)
    if total > MOST_BYTES_TOGETHER:
        raise ValueError(
            f'The zip unpacks to {total // 2**20:,} MB, more than the '
            f'{MOST_BYTES_TOGETHER // 2**20:,} MB that are read.'
        )
    shown = [entry for entry in entries if not _passed_over(entry)]
    if not shown:
        raise ValueError(f'The zip has no photograph among its {len(entries):,} entries.')
    return archive, shown


def read(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> Iterator[Entry]:
    """Reads the entries of `open_zip` one at a time, as they are asked for."""
    for entry in entries:
        error = _refused(entry)
        content = b''
        if not error:
            try:
                with archive.open(entry) as file:
                    content = file.read(MOST_BYTES + 1)
            except Exception as reason:  # zlib, lzma and zipfile raise all kinds of them.
                error = f'cannot be unpacked: {" ".join(str(reason).split())}'
            if len(content) > MOST_BYTES:
                content, error = b'', _too_large()
        yield Entry(entry.filename, content, error)


def _passed_over(entry: zipfile.ZipInfo) -> bool:
    path = pathlib.PurePosixPath(entry.filename)
    hidden = any(part.startswith('.') and part not in ('.', '..') for part in path.parts)
    known = path.suffix.lower() in (*EXTENSIONS, *_ARCHIVES) or _is_link(entry)
    # A Mac adds this folder, with what belongs to its own file system.
    return entry.is_dir() or hidden or not known or path.parts[:1] == ('__MACOSX',)


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _refused(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not read; '' if it is."""
    if _is_link(entry):
        return 'a link, which is not followed'
    if pathlib.PurePosixPath(entry.filename).suffix.lower() in _ARCHIVES:
        return 'an archive within the archive, which is not read'
    if entry.flag_bits & _ENCRYPTED:
        return 'encrypted, and there is nowhere to give a password'
    if entry.compress_type not in _METHODS:
        return 'compressed by another method than deflate, which is the only one that is read'
    return _too_large() if entry.file_size > MOST_BYTES else ''


def _too_large() -> str:
    return f'unpacks to more than the {MOST_BYTES // 2**20:,} MB that are read'
