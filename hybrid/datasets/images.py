"""Decodes, checks, converts, resizes and hashes images."""

import contextlib
import io
import struct
import threading
from collections.abc import Collection
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from hybrid.datasets import near_duplicates

# An image with more pixels is read at half its size, and one with four times as many not at all.
WHOLE_PIXELS = 64_000_000
MAX_PIXELS = 4 * WHOLE_PIXELS
# One at a time: until they are shrunk, such images take up to a gigabyte or two.
_LARGE = threading.Lock()

with contextlib.suppress(ImportError):  # The extra heic.
    import pillow_heif

    pillow_heif.register_heif_opener()
Image.init()
# Only plain image formats: Pillow would start an interpreter for others, such as PostScript.
FORMATS = tuple(
    name
    for name in (
        *('JPEG', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'AVIF', 'HEIF', 'JPEG2000', 'PPM'),
    )
    if name in Image.OPEN
)
# What stands after `ftyp` at the beginning of HEIC files.
_HEIC_BRANDS = tuple(b'heic heix heim heis hevc hevx hevm hevs mif1 msf1'.split())
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]


class CheckedImage(NamedTuple):
    """An RGB JPEG and its difference hash (uint64 [4]), or why the file has none."""

    jpeg: bytes = b''
    difference_hash: np.ndarray | None = None
    refused: str = ''
    detail: str = ''


class TooManyPixelsError(ValueError):
    """An image has more than MAX_PIXELS."""


class Decoded(NamedTuple):
    """An upright image, and its size in the file, which may be twice that of the pixels.

    Attributes:
      pixels: uint8 [H, W, 3], RGB.
      width: Of the upright image in the file.
      height: Likewise.
    """

    pixels: np.ndarray
    width: int
    height: int


def open_image(file: BinaryIO, formats: Collection[str] = FORMATS) -> ImageFile.ImageFile:
    """Reads the head of an image file, as Pillow does, but for its limit on the number of pixels.

    Pillow refuses, for the whole program, what has more than 179 million. `decode` has a limit.

    Raises:
      UnidentifiedImageError: when it is none in these formats.
      OSError: when it begins as one, but is damaged.
      ValueError: when it is one in HEIC, which cannot be read here; says how it can.
    """
    head = file.read(16)
    problem = ''
    for name in formats:
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(head)
        except struct.error:  # There is next to nothing in the file.
            continue
        if accepted and not isinstance(accepted, str):  # A text is a reason against it.
            file.seek(0)
            try:
                return factory(file, '')
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                problem = f'{name}: {error}'
    if 'HEIF' not in Image.OPEN and head[4:8] == b'ftyp' and head[8:12] in _HEIC_BRANDS:
        raise ValueError("a HEIC image, which needs pillow-heif: pip install -e '.[heic]'")
    if problem:
        raise OSError(problem)
    raise UnidentifiedImageError(f'no image in a format of {", ".join(formats)}')


def decode(image: Image.Image) -> Decoded:
    """Decodes an image that was opened, turns it as its EXIF data say, and makes it RGB.

    One of more than WHOLE_PIXELS comes at half its size. As JPEG it is decoded so, which takes a
    quarter of the memory; others are shrunk after that.

    Raises:
      TooManyPixelsError: when there are more than MAX_PIXELS, before anything is decoded.
      Exception: whatever Pillow raises on a damaged file.
    """
    size = width, height = image.size
    if width * height > MAX_PIXELS:
        raise TooManyPixelsError(
            f'{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read'
        )
    large = width * height > WHOLE_PIXELS
    with _LARGE if large else contextlib.nullcontext():
        if large and image.format in ('JPEG', 'MPO'):
            image.draft(None, (max(width // 2, 1), max(height // 2, 1)))
        image.load()
        turn = _turn(image)  # Pillow has turned a TIFF by now, and forgotten it.
        if large and image.size == size:
            image = _halve(image)
        pixels = to_rgb(image if turn is None else image.transpose(turn))
    if turn in _SIDEWAYS:
        width, height = height, width
    return Decoded(np.ascontiguousarray(pixels), width, height)


def _halve(image: Image.Image) -> Image.Image:
    if image.mode[0] in 'IF':
        image = Image.fromarray(to_rgb(image))
    elif image.has_transparency_data:
        image = image.convert('RGBA')
    elif image.mode not in ('L', 'RGB', 'CMYK'):
        image = image.convert('RGB')
    return image.reduce(2)


def check_image(
    content: bytes,
    *,
    formats: Collection[str] = ('JPEG', 'PNG'),
    min_side: int = 0,
    one_colour: bool = True,
) -> CheckedImage:
    """Decodes an image file whole.

    Args:
      content: Of the file.
      formats: Pillow's names of those that are read.
      min_side: Shortest side in pixels of an image that is taken.
      one_colour: Whether an image that shows nothing but one colour is taken.

    Returns:
      The file's own bytes if it is a plain RGB JPEG that is upright and has at most WHOLE_PIXELS,
      else (grey, CMYK, PNG, ...) a new JPEG; for a file that cannot be used the reason:
      `empty_file`, `too_many_pixels`, `unreadable_image`, `too_small`, `one_colour`.
    """
    if not content:
        return CheckedImage(refused='empty_file')
    try:
        with open_image(io.BytesIO(content), formats) as image:
            width, height = image.size
            if min(width, height) < min_side:
                return CheckedImage(refused='too_small', detail=f'{width}x{height}')
            plain = image.format == 'JPEG' and image.mode == 'RGB' and _turn(image) is None
            pixels = decode(image).pixels
            rgb = Image.fromarray(pixels)
            if not plain or width * height > WHOLE_PIXELS:
                converted = io.BytesIO()
                rgb.save(converted, 'JPEG', quality=95, subsampling=0)
                content = converted.getvalue()
            if not one_colour and _has_one_colour(pixels):
                return CheckedImage(refused='one_colour', detail=str(rgb.getpixel((0, 0))))
            return CheckedImage(content, near_duplicates.difference_hash(rgb))
    except TooManyPixelsError as error:
        return CheckedImage(refused='too_many_pixels', detail=str(error))
    # Whatever Pillow raises on a damaged file (OSError, SyntaxError, struct.error, ...), it is one.
    except Exception as error:
        return CheckedImage(refused='unreadable_image', detail=f'{type(error).__name__}: {error}')


def _has_one_colour(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[0, 0]).all())


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Damaged EXIF data is no reason to refuse the pixels.
        return None


def upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF data say."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels, uint8 [H, W, 3]: 16-bit grey is scaled, what is transparent is shown on white.

    Raises:
      ValueError: for grey of which nobody knows what is white.
    """
    if image.mode.startswith('I'):  # 16-bit grey, for which Pillow's convert would clip at 255.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError('32-bit grey with values outside 0..65535')
        if image.mode == 'I' and 0 < values.max() < 256:
            raise ValueError(
                "as 16-bit grey it is black; if white is 255, make it 8-bit: image.convert('L')"
            )
        grey = np.empty(values.shape, np.uint8)
        for row, shown in zip(values, grey, strict=True):
            shown[:] = (row.astype(np.int64) + 128) // 257
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == 'F':
        raise ValueError('floating-point grey, of which nobody knows what is white')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Brings uint8 [H, W, 3] to [size, size, 3]: the middle square, resized."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(image)
    # Averaging over the area avoids aliasing when shrinking, but is nearest-neighbour when growing.
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)
