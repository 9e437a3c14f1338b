"""Image files by their path: of a folder, or of a tar archive that is not extracted.

Nothing outside the folder or archive is read: what paths in metadata, names in archives and links
say is checked first.
"""

import contextlib
import errno
import hashlib
import os
import pathlib
import stat
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hybrid.datasets.progress import ProgressBar

MAX_FILE_BYTES = 64 * 2**20
# What the names of image files end in.
EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.gif', '.webp', '.avif', '.heic', '.heif'),
    *('.hif', '.tif', '.tiff', '.bmp', '.dib', '.jp2', '.j2k', '.ppm', '.pgm', '.pbm', '.pnm'),
)
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class RefusedError(Exception):
    """Why a file is not read, or an image or a face in it not taken.

    Attributes:
      reason: Of a file `unsafe_path`, `missing_file` or `not_a_regular_file`; of what is in it see
        `images.check_image` and `cutting.check_faces`.
      detail: Free text.
    """

    def __init__(self, reason: str, detail: str = ''):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def is_unsafe(path: str) -> bool:
    """Whether a path may lead out of the folder that it is meant to be in."""
    parts = pathlib.PurePosixPath(path).parts
    return not parts or path.startswith('/') or '..' in parts or '\0' in path


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is called as images are."""
    ending = os.path.splitext(path)[1].lower()
    return ending in EXTENSIONS and not is_hidden_by_macos(os.path.basename(path))


def is_hidden_by_macos(name: str) -> bool:
    """Whether a file holds what macOS knows of another one: of x.jpg in ._x.jpg."""
    return name.startswith('._')


def list_files(folder: pathlib.Path, below: bool) -> list[pathlib.Path]:
    """Lists the files of a folder, and those of the folders below it if wanted, sorted."""
    found = folder.rglob('*') if below else folder.iterdir()
    return sorted(path for path in found if not path.is_dir())


class Seen(NamedTuple):
    """What a file was when it was looked at.

    Attributes:
      size: In bytes; -1 if it was not there.
      modified: When, in nanoseconds.
      digest: Of the content, see `digest`; '' if it was not read.
    """

    size: int = -1
    modified: int = 0
    digest: str = ''


def digest(content: bytes) -> str:
    """Returns 64 bits of the sha256 as text: enough to tell whether a file is still the same."""
    return hashlib.sha256(content).hexdigest()[:16]


class Folder:
    """The files of a folder. A link in it is followed if it does not lead out of it.

    Args:
      root: The folder.
      own_links: Whether the folder is somebody's own, who may have put links to other folders into
        it: what lies in those, and does not lead out of them, is read, too. A table of paths from
        elsewhere cannot name what is outside, for it cannot make a link.
      confined: Whether links are looked at; not if paths are from the folder itself.

    Attributes:
      links: Where each link leads that is taken for one's own, by its name.
      seen: What the files were that were read or missing, by path.
    """

    def __init__(self, root: pathlib.Path, own_links: bool = False, confined: bool = True):
        self._given, self._root = os.path.abspath(root), os.path.realpath(root)
        self._confined = confined
        self.links: dict[str, str] = {}
        self.seen: dict[str, Seen] = {}
        self._names: dict[str, dict[str, str]] = {}
        if own_links and os.path.isdir(self._root):
            for entry in os.scandir(self._root):
                # entry.is_dir() raises on a link that leads to itself.
                if entry.is_symlink() and os.path.isdir(entry.path):
                    self.links[entry.name] = os.path.realpath(entry.path)

    def __str__(self) -> str:
        return self._root

    def locate(self, path: str) -> str:
        """Brings a path into the form that is read: relative to the folder, written with /.

        A path that leads elsewhere comes back as it is, and is refused when it is read.
        """
        if '\\' in path and not os.path.exists(os.path.join(self._root, path)):
            path = path.replace('\\', '/')  # as Windows writes it
        if os.path.isabs(path):
            for root in (self._given, self._root):
                if (inside := pathlib.Path(path)).is_relative_to(root):
                    return inside.relative_to(root).as_posix()
            return path
        # Two spellings of a file, such as ./a.jpg and a.jpg, are one; a/../b.jpg may be another.
        return pathlib.PurePosixPath(path).as_posix() if path else path

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
          RefusedError: when it is not read.
        """
        return self._find(path)[1].st_size

    def read(self, path: str) -> bytes:
        """The content of a file; may be called in several threads.

        Raises:
          RefusedError: when it is not read.
        """
        real, status = self._find(path)
        content = pathlib.Path(real).read_bytes()
        self.seen[path] = Seen(status.st_size, status.st_mtime_ns, digest(content))
        return content

    def _find(self, path: str) -> tuple[str, os.stat_result]:
        if is_unsafe(path):
            raise RefusedError('unsafe_path', f'it leads out of {self._root}')
        real = os.path.realpath(os.path.join(self._root, path))
        link = self.links.get(pathlib.PurePosixPath(path).parts[0], self._root)
        if self._confined and not any(
            real.startswith(os.path.join(root, '')) for root in (self._root, link)
        ):
            raise RefusedError('unsafe_path', f'a link that leads out of {self._root}')
        try:
            status = os.stat(real)
        except OSError as error:
            if error.errno not in _NOTHING_THERE:
                raise
            self.seen[path] = Seen()
            raise RefusedError('missing_file', self._nearest(real)) from None
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise RefusedError('not_a_regular_file', 'a folder, a device, or over 64 MiB')
        return real, status

    def _nearest(self, real: str) -> str:
        """What may be meant by a file that is not there; '' if nobody knows."""
        folder, name = os.path.split(real)
        if not os.path.isdir(folder):
            return f'there is no folder {folder}'
        if folder not in self._names:
            try:
                names = os.listdir(folder)
            except OSError:  # It may be entered, but not listed.
                names = []
            self._names[folder] = {_plain(there): there for there in names}
        there = self._names[folder].get(_plain(name), name)
        return f'there is {there!r}' if there != name else ''


def _plain(name: str) -> str:
    """A name without what is easily taken for the same: capitals, blanks, forms of accents."""
    return unicodedata.normalize('NFC', name).casefold().strip()


class _Member(NamedTuple):
    """Where a file lies in its archive; size -1 is no regular file of a sane size."""

    offset: int
    size: int


class Archive:
    """The files of an uncompressed tar archive, which is read from where they lie in it.

    Args:
      path: Of the archive.
      folder: What names in it begin with; taken off.

    Raises:
      ValueError: when it is no tar archive, compressed, truncated or damaged.
    """

    def __init__(self, path: pathlib.Path, folder: str):
        self._path = path
        self.refused: dict[str, str] = {}  # Name of a member -> why no path leads to it.
        self._members = self._index(folder)
        self._file = os.open(path, os.O_RDONLY)

    def __str__(self) -> str:
        return str(self._path)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
          RefusedError: when it is not read.
        """
        return self._find(path).size

    def read(self, path: str) -> bytes:
        """The content of a file; may be called in several threads.

        Raises:
          RefusedError: when it is not read.
        """
        member = self._find(path)
        return os.pread(self._file, member.size, member.offset)

    def _find(self, path: str) -> _Member:
        if is_unsafe(path):
            raise RefusedError('unsafe_path', 'absolute or with ..')
        member = self._members.get(path)
        if member is None:
            raise RefusedError('missing_file')
        if member.size < 0:
            raise RefusedError('not_a_regular_file', 'a link, a device, or over 64 MiB')
        return member

    def _index(self, folder: str) -> Mapping[str, _Member]:
        found: dict[str, _Member] = {}
        for member in self._read_headers():
            name = member.name.removeprefix('./')
            if is_unsafe(name):
                self.refused[member.name] = 'absolute or with ..'
                continue
            regular = member.isreg() and not member.issparse() and member.size <= MAX_FILE_BYTES
            if not regular:
                self.refused[member.name] = 'a link, a device, or over 64 MiB'
            # Of a name that comes twice the last counts, as when an archive is extracted.
            where = _Member(member.offset_data, member.size if regular else -1)
            found[name.removeprefix(f'{folder}/')] = where
        return found

    def _read_headers(self) -> Iterator[tarfile.TarInfo]:
        """Yields all members but folders: headers alone are read, what lies between is skipped."""
        total = self._path.stat().st_size
        try:
            with (
                tarfile.open(self._path, 'r:') as tar,
                ProgressBar(
                    total=total, desc=f'listing {self._path}', unit='B', unit_divisor=1024
                ) as bar,
            ):
                while (member := tar.next()) is not None:
                    # Half a million of them would take half a gigabyte.
                    tar.members.clear()  # type: ignore[attr-defined]
                    if tar.offset <= member.offset:  # A negative size would be read for ever.
                        raise tarfile.ReadError(f'{member.name}: size {member.size}')
                    bar.update(tar.offset - bar.n)
                    if not member.isdir():
                        yield member
                end = tar.offset
            # A header that is damaged, or not there, is the end of an archive to tarfile.
            with self._path.open('rb') as file:
                file.seek(end)
                block = file.read(tarfile.BLOCKSIZE)
            if block != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f'no header at byte {end}')
        except tarfile.TarError as error:
            raise ValueError(
                f'{self._path} ({total} bytes) is truncated, damaged or compressed ({error}): get '
                'it again'
            ) from error
