"""Finds the crops of IMDB-WIKI and their metadata, as published or as people have them."""

import os
import pathlib
import re
from typing import NamedTuple

from hybrid.datasets.image_sources import Archive, Folder, RefusedError
from hybrid.datasets.imdb_wiki import metadata
from hybrid.datasets.manual_dir import describe

_KNOWN = {
    r'NAME_crop.*\.(tar\.gz|tgz)': 'gunzip it, for images are read from where they lie in it',
    r'(NAME_crop|NAME|archive).*\.(zip|rar|7z)': 'extract it, so that there is a folder NAME_crop/',
    r'NAME(_\d)?(\.tar(\.gz)?)?': 'the whole photographs; "faces only", NAME_crop.tar, is needed',
    r'NAME.*\.(crdownload|part|download|tmp)': 'its download has not ended',
}


class Database(NamedTuple):
    """The metadata of a database and where its images are.

    Attributes:
      rows: The metadata.
      images: An archive, or a folder.
      path: Of that.
      table: The file of the metadata; None if it is in the archive.
    """

    rows: metadata.Metadata
    images: Archive | Folder
    path: pathlib.Path
    table: pathlib.Path | None


def find_database(manual_dir: pathlib.Path, name: str, instructions: str = '') -> Database:
    """Reads the metadata of `imdb` or `wiki`, and finds its images.

    Args:
      manual_dir: Holds `<name>_crop.tar`, or the extracted folder `<name>_crop`, or is that folder;
        the metadata, `<name>.mat`, is beside them or in them.
      name: `imdb` or `wiki`.
      instructions: What to get, for the message.

    Raises:
      FileNotFoundError: when something is missing.
      ValueError: when it is damaged.
    """
    path = _find(manual_dir, name)
    if path is None:
        known = {k.replace('NAME', name): v.replace('NAME', name) for k, v in _KNOWN.items()}
        said = describe(manual_dir, f'{name}_crop.tar and {name}_crop/', known)
        raise FileNotFoundError(f'{said}\n{instructions}')
    source = Archive(path, f'{name}_crop') if path.is_file() else Folder(path)
    file_name = f'{name}.mat'
    for folder in (manual_dir, path.parent):
        if (table := folder / file_name).is_file():
            return Database(metadata.read_metadata(table, name), source, path, table)
    try:
        content = source.read(file_name)
    except RefusedError as error:
        raise FileNotFoundError(
            f'neither {source} nor {manual_dir} holds {file_name} ({error.reason}).\n{instructions}'
        ) from None
    rows = metadata.read_metadata(content, name)
    if isinstance(source, Archive):
        return Database(rows, source, path, None)
    del source.seen[file_name]  # It is no image.
    return Database(rows, source, path, path / file_name)


def _find(manual_dir: pathlib.Path, name: str) -> pathlib.Path | None:
    folder = f'{name}_crop'
    if (manual_dir / f'{folder}.tar').is_file():
        return manual_dir / f'{folder}.tar'
    found = None
    if (manual_dir / folder).is_dir():
        # Some programs extract an archive into a folder of its name.
        within = manual_dir / folder / folder
        if not within.is_dir():
            return manual_dir / folder
        found = within
    elif manual_dir.is_dir():
        entries = sorted(manual_dir.iterdir())
        archives = [
            p for p in entries if re.fullmatch(rf'{folder}\W.*\.tar', p.name, re.IGNORECASE)
        ]
        nested = [path / folder for path in entries if (path / folder).is_dir()]
        itself = manual_dir.resolve().name == folder or (
            (manual_dir / f'{name}.mat').is_file() and (manual_dir / '00').is_dir()
        )
        found = next(iter([*archives, *nested, *([manual_dir] if itself else [])]), None)
    if found:
        print(f'{manual_dir}: {name} is read from {os.path.relpath(found, manual_dir)}')
    return found
