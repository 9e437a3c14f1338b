"""What a dataset was made from, so that other files under the same names are not passed over.

`sources.csv` beside the prepared data names every file that was read. Later the files of a
manual_dir are compared with it: names and sizes, and where only times differ, as they do in a copy,
the contents.
"""

import contextlib
import csv
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import Literal, NamedTuple

from hybrid import files
from hybrid.datasets.image_sources import MAX_FILE_BYTES, Seen, digest, is_image, list_files
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads

FILE = 'sources.csv'
# A stat takes long on a network's disk, and there is no need to wait for one after the other.
_THREADS = 16
_BATCH = 1000
_PICTURES = {'archive', 'image'}
_BLOCKS = 64  # MiB of a large file that are looked at.


class _Row(NamedTuple):
    """What is known of a file.

    `kind` is one of `table`, `archive` and `image`, or `meaning`, see `Origin.add_table`; or it is
    a folder of which all images were read, `tree` including those of the folders in it.
    """

    kind: str
    name: str
    seen: Seen


_Found = Mapping[_Row, os.stat_result | None]


class Origin:
    """Collects what a dataset is made from.

    Args:
      manual_dir: What names are relative to.
    """

    def __init__(self, manual_dir: pathlib.Path):
        self._manual_dir = manual_dir
        self._rows: list[_Row] = []

    def add_table(self, path: pathlib.Path, meaning: str = '') -> None:
        """Adds a file of labels or metadata.

        Args:
          path: The file.
          meaning: A digest of what is read from it, which is the same however it is written.
        """
        self._rows.append(_Row('table', self._name(path), _look(path)))
        if meaning:
            self._rows.append(_Row('meaning', self._name(path), Seen(digest=meaning)))

    def add_archive(self, path: pathlib.Path) -> None:
        """Adds an archive of images."""
        self._rows.append(_Row('archive', self._name(path), _look(path)))

    def add_images(
        self, folder: pathlib.Path, seen: Mapping[str, Seen], listed: Literal['', 'tree', 'folder']
    ) -> None:
        """Adds images.

        Args:
          folder: Where they lie.
          seen: What they were, by their paths in it; from `image_sources.Folder`.
          listed: Whether there were to be no others in that folder, or below it (`tree`).
        """
        if listed:
            self._rows.append(_Row(listed, self._name(folder), Seen()))
        before = '' if self._name(folder) == '.' else f'{self._name(folder)}/'
        self._rows += [_Row('image', f'{before}{path}', what) for path, what in seen.items()]

    def write(self, data_path: os.PathLike) -> None:
        """Writes `sources.csv` into the folder of the prepared data."""
        _write(pathlib.Path(data_path), self._rows)

    def _name(self, path: pathlib.Path) -> str:
        return os.path.relpath(path, self._manual_dir)


def check(
    data_path: os.PathLike,
    manual_dir: pathlib.Path,
    read_meaning: Callable[[pathlib.Path], str] | None = None,
) -> None:
    """Checks that a dataset was made from the files of a folder.

    What was moved away altogether after the dataset was made is not missed: it is used as it is
    then. So is a dataset that was prepared before there was `sources.csv`.

    Args:
      data_path: The folder of the prepared data.
      manual_dir: The folder.
      read_meaning: Digests what the table in that folder says, as for `Origin.add_table`.

    Raises:
      ValueError: when it was made from others, saying which.
    """
    data_path = pathlib.Path(data_path)
    rows = _read(data_path)
    found = dict(zip(rows, _stat(manual_dir, [row.name for row in rows]), strict=True))
    compared = [row for row in rows if row.kind in ('table', 'archive') and found[row]]
    images = [row for row in rows if row.kind == 'image']
    if any(found[row] for row in images):
        compared += images
    kinds, left = {row.kind for row in rows}, {row.kind for row in compared}
    if kinds & _PICTURES and not left & _PICTURES:
        print(f'{manual_dir} holds no image that {data_path} was made from; that is used as it is')
    differ = _find_differences(compared, found)
    if 'image' in left:
        differ |= dict.fromkeys(_find_new(rows, manual_dir), 'was not there')
    looked: dict[_Row, Seen] = {}
    if not differ:
        looked = _look_anew(compared, found, manual_dir)
        meanings = {row.name: row.seen.digest for row in rows if row.kind == 'meaning'}
        for row, now in looked.items():
            if row.seen.digest == now.digest:
                continue
            meaning = meanings.get(row.name)
            if not (meaning and read_meaning and read_meaning(manual_dir) == meaning):
                differ[row.name] = 'had another content'
    if differ:
        name, how = next(iter(differ.items()))
        others = f', and {len(differ) - 1:,} more differ' if len(differ) > 1 else ''
        raise ValueError(
            f'{data_path} was made from other files than those in {manual_dir}: {name} {how}'
            f'{others}. To prepare these, remove that folder, or take another config.data.data_dir '
            '(or another NAME in face_csv/NAME); to use it as it is, say --config.data.manual_dir='
        )
    if any(now != row.seen for row, now in looked.items()):
        # The next start need not read them again; where that cannot be written down, it will.
        with contextlib.suppress(OSError):
            _write(data_path, [row._replace(seen=looked.get(row, row.seen)) for row in rows])


def pictures(data_path: os.PathLike) -> str:
    """Digests the names and contents of the pictures that a dataset was made from; '' if unknown.

    What was converted or cut out of them may differ by a machine's rounding.
    """
    rows = _read(pathlib.Path(data_path))
    pictures = [row for row in rows if row.kind in _PICTURES]
    pictures = pictures or [row for row in rows if row.kind == 'table']  # It holds them itself.
    found = sorted((row.name, row.seen.size, row.seen.digest) for row in pictures)
    return digest(repr(found).encode()) if found else ''


def _find_differences(compared: Iterable[_Row], found: _Found) -> dict[str, str]:
    """Which archives and images differ, and how, as far as can be told without reading them."""
    differ = {}
    for row in compared:
        before, now = row.seen.size, found[row]
        if now is None and before >= 0:
            differ[row.name] = 'is gone'
        elif now is not None and before < 0:
            differ[row.name] = 'was not there'
        elif now is not None and before != now.st_size and row.kind != 'table':
            differ[row.name] = 'had another size'
    return differ


def _find_new(rows: Iterable[_Row], manual_dir: pathlib.Path) -> list[str]:
    """Which images lie in the folders that were read as a whole, and were not there then."""
    listed = {
        os.path.relpath(path, manual_dir)
        for row in rows
        if row.kind in ('tree', 'folder')
        for path in list_files(manual_dir / row.name, below=row.kind == 'tree')
        if is_image(path)
    }
    return sorted(listed - {row.name for row in rows if row.kind == 'image'})


def _look_anew(
    compared: Iterable[_Row], found: _Found, manual_dir: pathlib.Path
) -> dict[_Row, Seen]:
    """Reads the tables, and what has another time than it had."""
    touched = [
        row
        for row in compared
        if (now := found[row]) and (row.kind == 'table' or now.st_mtime_ns != row.seen.modified)
    ]
    looked: Iterable[Seen] = map_in_threads(lambda row: _look(manual_dir / row.name), touched)
    if len(touched) > _BATCH:
        looked = ProgressBar(looked, f'comparing {manual_dir}', len(touched), unit=' files')
    return dict(zip(touched, looked, strict=True))


def _stat(folder: pathlib.Path, names: Sequence[str]) -> list[os.stat_result | None]:
    """The state of each file, None for one that is not there."""

    def stat(batch: Sequence[str]) -> list[os.stat_result | None]:
        found: list[os.stat_result | None] = []
        for name in batch:
            try:
                found.append(os.stat(os.path.join(folder, name)))
            except OSError:
                found.append(None)
        return found

    batches = [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        return [one for batch in pool.map(stat, batches) for one in batch]


def _look(path: pathlib.Path) -> Seen:
    """Reads a file, of a large one a part that no other file of its size is likely to share."""
    status = path.stat()
    if status.st_size <= MAX_FILE_BYTES:
        content = path.read_bytes()
    else:
        blocks = []
        with path.open('rb') as file:
            for place in range(_BLOCKS):
                file.seek((status.st_size - 2**20) * place // (_BLOCKS - 1))
                blocks.append(file.read(2**20))
        content = b''.join(blocks)
    return Seen(status.st_size, status.st_mtime_ns, digest(content))


def _read(data_path: pathlib.Path) -> list[_Row]:
    path = data_path / FILE
    if not path.is_file():
        return []
    try:
        with path.open(newline='', encoding='utf-8', errors='surrogateescape') as file:
            return [
                _Row(kind, name, Seen(int(size), int(modified), content))
                for kind, name, size, modified, content in itertools.islice(
                    csv.reader(file), 1, None
                )
            ]
    except ValueError:
        raise ValueError(
            f'{path} is damaged: remove it, and the dataset is used without being compared'
        ) from None


def _write(data_path: pathlib.Path, rows: Iterable[_Row]) -> None:
    header = ('kind', 'name', 'size', 'modified', 'digest')
    table = files.to_csv(header, *((kind, name, *seen) for kind, name, seen in rows))
    # The names of files need not be text.
    files.replace(data_path / FILE, table.encode('utf-8', 'surrogateescape'))
