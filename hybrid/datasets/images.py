"""Checks, converts and hashes the image of one file."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid.datasets import near_duplicates

MAX_PIXELS = 50_000_000


class CheckedImage(NamedTuple):
    """An RGB JPEG and its difference hash (uint64 [4]), or why the file has none."""

    jpeg: bytes = b''
    difference_hash: np.ndarray | None = None
    refused: str = ''
    detail: str = ''


def check_image(content: bytes) -> CheckedImage:
    """Decodes a JPEG or PNG file whole.

    Returns:
      The file's own bytes if it is a plain RGB JPEG, else (grey, CMYK, PNG) a new JPEG in RGB; for
      a file that cannot be used the reason: `empty_file`, `too_many_pixels`, `unreadable_image`.
    """
    if not content:
        return CheckedImage(refused='empty_file')
    try:
        with Image.open(io.BytesIO(content), formats=('JPEG', 'PNG')) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return CheckedImage(refused='too_many_pixels', detail=f'{width}x{height}')
            image.load()
            difference_hash = near_duplicates.difference_hash(image)
            if image.format == 'JPEG' and image.mode == 'RGB':
                return CheckedImage(content, difference_hash)
            converted = io.BytesIO()
            image.convert('RGB').save(converted, 'JPEG', quality=95, subsampling=0)
            return CheckedImage(converted.getvalue(), difference_hash)
    # Whatever Pillow raises on a damaged file (OSError, SyntaxError, struct.error, ...), it is one.
    except Exception as error:
        return CheckedImage(refused='unreadable_image', detail=f'{type(error).__name__}: {error}')
