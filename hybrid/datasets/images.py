"""Decodes, checks, converts, resizes and hashes images."""

import io
from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image

from hybrid.datasets import near_duplicates

MAX_PIXELS = 50_000_000

Image.init()
# Only plain image formats: Pillow would start an interpreter for others, such as PostScript.
FORMATS = tuple(
    name
    for name in ('JPEG', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'AVIF', 'JPEG2000', 'PPM')
    if name in Image.OPEN
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CheckedImage(NamedTuple):
    """An RGB JPEG and its difference hash (uint64 [4]), or why the file has none."""

    jpeg: bytes = b''
    difference_hash: np.ndarray | None = None
    refused: str = ''
    detail: str = ''


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
      The file's own bytes if it is a plain RGB JPEG that is upright, else (grey, CMYK, PNG, ...) a
      new JPEG; for a file that cannot be used the reason: `empty_file`, `too_many_pixels`,
      `unreadable_image`, `too_small`, `one_colour`.
    """
    if not content:
        return CheckedImage(refused='empty_file')
    try:
        with Image.open(io.BytesIO(content), formats=tuple(formats)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return CheckedImage(refused='too_many_pixels', detail=f'{width}x{height}')
            if min(width, height) < min_side:
                return CheckedImage(refused='too_small', detail=f'{width}x{height}')
            image.load()
            plain = image.format == 'JPEG' and image.mode == 'RGB' and _turn(image) is None
            rgb = image if plain else Image.fromarray(to_rgb(upright(image)))
            if not plain:
                converted = io.BytesIO()
                rgb.save(converted, 'JPEG', quality=95, subsampling=0)
                content = converted.getvalue()
            if not one_colour and _has_one_colour(np.asarray(rgb)):
                return CheckedImage(refused='one_colour', detail=str(rgb.getpixel((0, 0))))
            return CheckedImage(content, near_duplicates.difference_hash(rgb))
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
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError('32-bit grey with values outside 0..65535')
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == 'F':
        raise ValueError('floating-point grey, of which nobody knows what is white')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert('RGB'))


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
