"""Finds image files and reads whatever they hold as upright RGB, or says why that cannot be."""

import os
import pathlib
import stat
from typing import Any

import numpy as np
from PIL import Image

from hybrid.datasets.images import FORMATS, MAX_PIXELS, to_rgb, upright

MAX_FILE_BYTES = 512 * 2**20

EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.gif', '.webp', '.avif', '.heic', '.heif'),
    *('.tif', '.tiff', '.bmp', '.dib', '.jp2', '.j2k', '.ppm', '.pgm', '.pbm', '.pnm'),
)


# A path; a Pillow image; or uint8 [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA), as a
# NumPy array or what can be seen as one.
ImageLike = str | os.PathLike | Image.Image | np.ndarray


def find_images(
    source: pathlib.Path, leave_out: pathlib.Path | None = None
) -> tuple[list[pathlib.Path], int]:
    """Lists the image files of a folder and of all folders in it.

    Args:
      source: A folder; or a file, which is listed whatever its name.
      leave_out: A folder in it that is passed over.

    Returns:
      (sorted paths, number of files passed over). The extension decides. What cannot be an image
      but has the name of one, such as a folder `x.jpg`, is listed too, and so are folders that
      cannot be read: reading them says what is wrong. Names that begin with a dot are not looked
      at, links to folders are not followed.
    """
    if not source.is_dir():
        return [source], 0
    found: list[pathlib.Path] = []
    skipped = 0
    refused: list[OSError] = []
    for folder, folders, names in os.walk(source, onerror=refused.append):
        here = pathlib.Path(folder)
        folders[:] = [
            name
            for name in folders
            if not name.startswith('.')
            and not (leave_out and (here / name).resolve() == leave_out.resolve())
        ]
        images = [name for name in folders + names if _looks_like_image(name)]
        found += [here / name for name in images]
        skipped += sum(not name.startswith('.') and not _looks_like_image(name) for name in names)
    found += [pathlib.Path(error.filename) for error in refused]
    return sorted(set(found)), skipped


def _looks_like_image(name: str) -> bool:
    return not name.startswith('.') and os.path.splitext(name)[1].lower() in EXTENSIONS


def read_image(path: pathlib.Path) -> np.ndarray:
    """Reads the first frame of an image file.

    The EXIF orientation is applied, transparent parts are shown on white, 16-bit grey is scaled to
    8 bits, and every other colour mode is converted to RGB.

    Returns:
      uint8 [H, W, 3]

    Raises:
      ValueError: with the reason in one line, for anything that is no readable image of at most
        MAX_PIXELS pixels. Larger ones are refused before they are decoded.
    """
    try:
        _check_file(path)
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(
                    f'{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read'
                )
            image.load()
            return np.ascontiguousarray(to_rgb(upright(image)))
    except Exception as error:  # Pillow raises all kinds of them on a damaged file.
        raise ValueError(_reason(error)) from error


def file_name(image: ImageLike) -> str | None:
    """The path of an image that is a file; None for pixels."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def read_pixels(image: ImageLike) -> np.ndarray:
    """Reads an image, whatever kind it is; files as `read_image` reads them, the others likewise.

    Returns:
      uint8 [H, W, 3], RGB. An array that is so already is not copied.

    Raises:
      ValueError: when a file cannot be read, or an array is of another shape or type.
      TypeError: when it is no kind of image.
    """
    check_kind(image)
    if isinstance(image, str | os.PathLike):
        return read_image(pathlib.Path(image).expanduser())
    if isinstance(image, Image.Image):
        try:
            return np.ascontiguousarray(to_rgb(upright(image)))
        except Exception as error:  # The file behind it is decoded only now.
            raise ValueError(_reason(error)) from error
    return _array_pixels(image)


def check_kind(image: Any) -> None:
    """Raises TypeError for what is no `ImageLike`."""
    if not isinstance(image, str | os.PathLike | Image.Image) and not hasattr(image, '__array__'):
        raise TypeError(f'{type(image).__name__} is not a path, a Pillow image or an array')


def _array_pixels(image: np.ndarray) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise ValueError(f'an array of {pixels.dtype}; images are uint8, from 0 to 255')
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f'an array of shape {np.shape(image)}; an image is [H, W], [H, W, 3] or [H, W, 4]'
        )
    if pixels.shape[2] == 4:
        pixels = to_rgb(Image.fromarray(pixels))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _check_file(path: pathlib.Path) -> None:
    mode = path.stat().st_mode  # Of a link: of what it leads to.
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # Raises where it may not be listed.
        raise ValueError('a folder, not a file')
    if not stat.S_ISREG(mode):
        raise ValueError('not a regular file')  # Opening a pipe would wait forever.
    if not path.stat().st_size:
        raise ValueError('the file is empty')
    # Some decoders read a whole file before they look at its first bytes.
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f'more than the {MAX_FILE_BYTES:,} bytes that are read')


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f'not an image in a known format ({", ".join(FORMATS)})'
    if isinstance(error, Image.DecompressionBombError):
        return f'more than the {MAX_PIXELS:,} pixels that are read'
    if isinstance(error, FileNotFoundError):
        return 'no such file, or a link to one'
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = ' '.join(text.split()) or type(error).__name__
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno):
        return text
    return f'cannot be decoded: {text}'
