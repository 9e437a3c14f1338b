"""Finds UTKFace in a folder, as published or as people have it from elsewhere."""

import os
import pathlib
import re
import zipfile
from typing import NamedTuple

from hybrid.datasets.manual_dir import describe
from hybrid.datasets.utkface import file_names

ARCHIVE = 'UTKFace.tar.gz'
FOLDER = 'UTKFace'
# As browsers and Kaggle name them: 'UTKFace (1).tar.gz', 'archive.zip'.
_ARCHIVE = re.compile(r'utkface.*\.(tar\.gz|tgz|tar|zip)|archive.*\.zip', re.IGNORECASE)
# Of names of the aligned faces; those of the photographs lack it.
_ALIGNED = '.chip.'
_KNOWN = {
    r'part\d.*': 'the photographs; the aligned faces, UTKFace.tar.gz, are needed',
    r'crop_part1(\.(tar\.gz|tgz|tar|zip))?': 'a part of the aligned faces; to take it alone, '
    f'call the extracted folder {FOLDER}',
    r'utkface.*\.(rar|7z|xz|bz2)': f'extract it, so that there is a folder {FOLDER}/',
    r'\d+_[01]_[0-4]_\d+\.jpg': 'called as the photographs are, without .chip; if it is an '
    f'aligned face, put all of them into a folder {FOLDER}/',
    r'.*\.(crdownload|part|download|tmp)': 'its download has not ended',
}


class Source(NamedTuple):
    """An archive, a folder with those below it (`below`), or a folder without them."""

    path: pathlib.Path
    below: bool = True


def find_source(manual_dir: pathlib.Path) -> Source | None:
    """Returns the first of these that is there, and says which if it is not one of the first two.

    The archive as published; the folder that it extracts to; another archive named after it, or a
    `archive.zip` that holds it; such a folder in another folder; the images themselves.
    """
    if (manual_dir / ARCHIVE).is_file():
        return Source(manual_dir / ARCHIVE)
    if (manual_dir / FOLDER).is_dir():
        return Source(manual_dir / FOLDER)
    found = None
    if manual_dir.is_dir():
        entries = sorted(manual_dir.iterdir())
        archives = [path for path in entries if _ARCHIVE.fullmatch(path.name) and path.is_file()]
        nested = [path / FOLDER for path in entries if (path / FOLDER).is_dir()]
        if archives := list(filter(_holds_faces, archives)):
            found = Source(archives[0])
        elif nested:
            found = Source(nested[0])
        elif any(file_names.parse(path.name) and _ALIGNED in path.name for path in entries):
            found = Source(manual_dir, below=False)
    if found:
        print(f'{manual_dir}: UTKFace is read from {os.path.relpath(found.path, manual_dir)}')
    return found


def _holds_faces(path: pathlib.Path) -> bool:
    """Whether it is worth looking into an archive: `archive.zip` may be anything."""
    if not path.name.lower().startswith('archive'):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(file_names.parse(re.split(r'[/\\]', n)[-1]) for n in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def missing(manual_dir: pathlib.Path) -> str:
    """Says in one line what a folder holds instead, and what to do with it."""
    return describe(manual_dir, f'{ARCHIVE} and {FOLDER}/', _KNOWN)
