"""Finds image files and reads whatever they hold as upright RGB, or says why that cannot be."""

import io
import logging
import os
import pathlib
import stat
from collections.abc import Sequence

import numpy as np
from PIL import Image

from hybrid import files
from hybrid.datasets.image_sources import EXTENSIONS
from hybrid.datasets.images import FORMATS, Decoded, decode, open_image, to_rgb, upright
from hybrid.photos.given import ImageLike, check_array, check_kind

_LOG = logging.getLogger(__name__)

MAX_FILE_BYTES = 512 * 2**20

VIDEO_EXTENSIONS = ('.mp4', '.m4v', '.mov', '.3gp', '.avi', '.mkv', '.webm', '.mpg', '.mpeg')


def find_images(
    source: pathlib.Path,
    leave_out: pathlib.Path | None = None,
    extensions: Sequence[str] = EXTENSIONS,
) -> tuple[list[pathlib.Path], int]:
    """Lists the image files of a folder and of all folders in it, linked ones included.

    A folder that can be reached in several ways is searched once, in its own place if that is in
    `source`; so a loop of links ends. A linked file is listed by its own name, even if what it
    leads to is listed too.

    Args:
      source: A folder; or a file, which is listed whatever its name.
      leave_out: A folder in it that is passed over, and what leads into it.
      extensions: What the names of the files end in, in lower case.

    Returns:
      (sorted paths, number of files passed over). The extension decides. What cannot be an image
      but has the name of one, such as a folder `x.jpg`, is listed too, and so are folders that
      cannot be read, and links that lead to nothing, which may have been folders: reading them says
      what is wrong. Names that begin with a dot are not looked at.
    """
    if not source.is_dir():
        return [source], 0
    left_out = leave_out and _real_path(leave_out)
    found: set[pathlib.Path] = set()
    skipped = 0
    refused: list[OSError] = []
    searched: set[pathlib.Path] = set()
    tops = [source]
    while tops:
        links: list[pathlib.Path] = []
        for top in tops:
            for folder, folders, names in os.walk(top, onerror=refused.append):
                here = pathlib.Path(folder)
                real = _real_path(here)
                if real in searched or _lies_in(real, left_out):
                    if here == top:
                        reason = 'is searched anyway' if real in searched else 'holds drawings'
                        _LOG.info('%s: passed over, it leads to a folder that %s', here, reason)
                    folders.clear()
                    continue
                searched.add(real)
                folders[:] = [name for name in folders if not name.startswith('.')]
                # os.walk does not enter these: they come once the others have been searched.
                links += [here / name for name in folders if os.path.islink(here / name)]
                for name in folders + names:
                    path = here / name
                    if name.startswith('.') or (left_out and _lies_in(_real_path(path), left_out)):
                        continue
                    if path.suffix.lower() in extensions or not os.path.exists(path):
                        found.add(path)
                    elif name in names:
                        skipped += 1
        tops = sorted(links)
    found.update(pathlib.Path(error.filename) for error in refused)
    return sorted(found), skipped


def _real_path(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(os.path.realpath(path))  # Path.resolve raises on a loop.


def _lies_in(path: pathlib.Path, folder: pathlib.Path | None) -> bool:
    return folder is not None and folder in (path, *path.parents)


def read_file(path: pathlib.Path) -> Decoded:
    """Reads the first frame of an image file.

    The EXIF orientation is applied, transparent parts are shown on white, 16-bit grey is scaled to
    8 bits, and every other colour mode is converted to RGB. An image of more than WHOLE_PIXELS
    comes at half its size; see `images.decode`.

    Raises:
      ValueError: with the reason in one line, for anything that is no readable image of at most
        MAX_PIXELS pixels. Larger ones are refused before they are decoded.
    """
    try:
        _check_file(path)
        with path.open('rb') as file, open_image(file) as image:
            return decode(image)
    except Exception as error:  # Pillow raises all kinds of them on a damaged file.
        raise ValueError(_reason(error)) from error


def read_bytes(content: bytes) -> Decoded:
    """Reads the content of an image file as `read_file` does, with the same errors."""
    try:
        if not content:
            raise ValueError('the file is empty')
        with open_image(io.BytesIO(content)) as image:
            return decode(image)
    except Exception as error:  # As above.
        raise ValueError(_reason(error)) from error


def read(image: ImageLike) -> Decoded:
    """Reads an image, whatever kind it is; files as `read_file` reads them, the others likewise.

    What comes as pixels is not shrunk. An array that is uint8 [H, W, 3] already is not copied.

    Raises:
      ValueError: when a file cannot be read, or an array is of another shape or type.
      TypeError: when it is no kind of image.
    """
    check_kind(image)
    if isinstance(image, str | os.PathLike):
        return read_file(files.expanded(image))
    if isinstance(image, Image.Image):
        try:
            pixels = np.ascontiguousarray(to_rgb(upright(image)))
        except Exception as error:  # The file behind it is decoded only now.
            raise ValueError(_reason(error)) from error
    else:
        pixels = _array_pixels(image)
    return Decoded(pixels, pixels.shape[1], pixels.shape[0])


def _array_pixels(image: np.ndarray) -> np.ndarray:
    pixels = check_array(image)
    if pixels.shape[2] == 4:
        pixels = to_rgb(Image.fromarray(pixels))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _check_file(path: pathlib.Path) -> None:
    status = path.stat()  # Of a link: of what it leads to.
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # Raises where it may not be listed.
        raise ValueError('a folder, not a file')
    if not stat.S_ISREG(status.st_mode):
        raise ValueError('not a regular file')  # Opening a pipe would wait forever.
    if not status.st_size:
        raise ValueError('the file is empty')
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        raise ValueError('a video, whose frames --mode=predict reads with --detect')
    # Some decoders read a whole file before they look at its first bytes.
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f'more than the {MAX_FILE_BYTES:,} bytes that are read')


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f'not an image in a known format ({", ".join(FORMATS)})'
    if isinstance(error, Image.DecompressionBombError):
        return 'more pixels than Pillow reads of such a file; save it as JPEG or PNG'
    if isinstance(error, FileNotFoundError):
        return 'no such file, or a link to one'
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = ' '.join(text.split()) or type(error).__name__
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno):
        return text
    return f'cannot be decoded: {text}'
