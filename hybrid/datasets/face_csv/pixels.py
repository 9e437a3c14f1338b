"""Faces that a table holds itself: a column of grey values, as some data sets are handed round."""

import math

import cv2
import numpy as np

from hybrid.datasets.image_sources import RefusedError, Seen

COLUMN = 'pixels'
# Those that are read, or that such tables have and nobody needs to be told of.
COLUMNS = (COLUMN, 'img_name')
# Of "Age, Gender and Ethnicity (Face Data)", which is made of UTKFace and codes as it does.
GENDERS = {'0': 'male', '1': 'female'}
NOTE = "images are drawn from the column 'pixels'; in 'gender' 0 is male and 1 is female"


def read(line: int, cells: dict[str, str]) -> tuple[dict[str, str], np.ndarray]:
    """Reads the image of a row.

    Args:
      line: Its number in the file.
      cells: By column: `pixels` holds grey values from 0 to 255, separated by blanks, of a square
        image, row by row.

    Returns:
      The cells as if the image were a file: with `path`, which names the line and, where the table
      has it, `img_name`, and with `gender` in words; and the image, uint8 [S, S].

    Raises:
      ValueError: for what is no such image.
    """
    values = cells[COLUMN].split()
    side = math.isqrt(len(values))
    if not values or side * side != len(values):
        raise ValueError(f'{len(values)} pixels are no square image')
    try:
        image = np.array(values, np.uint8).reshape(side, side)
    except (ValueError, OverflowError):
        raise ValueError('pixels must be whole numbers from 0 to 255') from None
    path = f'{line:06d}_{cells.get("img_name", "")}'.rstrip('_')
    gender = cells['gender']
    return {**cells, 'path': path, 'gender': GENDERS.get(gender, gender)}, image


class Drawn:
    """Images by path, as if they were files; see `image_sources.Folder`.

    Args:
      images: Each uint8 [H, W].
    """

    def __init__(self, images: dict[str, np.ndarray]):
        self._images = images
        self.seen: dict[str, Seen] = {}  # The table itself says it all.

    def read(self, path: str) -> bytes:
        """A PNG file.

        Raises:
          RefusedError: when there is no such image.
        """
        if path not in self._images:
            raise RefusedError('missing_file')
        return cv2.imencode('.png', self._images[path])[1].tobytes()
