"""Cuts faces out of photographs: by boxes here, by their landmarks with what `photos` provides."""

import io
import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from hybrid.datasets import images, near_duplicates
from hybrid.datasets.geometry import Geometry
from hybrid.datasets.image_sources import RefusedError
from hybrid.datasets.images import CheckedImage

# Left, top, width and height in pixels of the upright picture; (0, 0) is its corner.
Box = tuple[float, float, float, float]
# A box of which less lies in the picture belongs to another one.
_MIN_INSIDE = 0.5


class Cutter(Protocol):
    """What cuts faces out of a picture; several threads may call it at once."""

    @property
    def geometry(self) -> Geometry:
        """The record of how it cuts."""

    def __call__(
        self, image: np.ndarray, boxes: Sequence[Box | None]
    ) -> list[np.ndarray | RefusedError]:
        """Cuts out the face in each box; without a box, the face that the picture is of.

        Args:
          image: uint8 [H, W, 3], RGB.
          boxes: Of one or several faces.

        Returns:
          For each uint8 [S, S, 3], or why there is none.
        """


# Makes a cutter whose faces have so many pixels on a side.
CreateCutter = Callable[[int], Cutter]


def aligner(create: CreateCutter | None, size: int) -> Cutter:
    """Makes what aligns, for a builder with the parameter `align`.

    Args:
      create: The builder's `create_aligner`, which `datasets.prepare` has set.
      size: Side of the faces in pixels.

    Raises:
      ValueError: when it was not set.
    """
    if create is None:
        raise ValueError(
            'align=True: only a detector can align faces; call datasets.prepare with '
            'create_aligner, as --mode=prepare and hybrid.data.prepared do'
        )
    return create(size)


def check_size(size: int) -> None:
    """Raises ValueError for a side of faces that makes no sense."""
    if not 16 <= size <= 2048:
        raise ValueError(f'size={size} must lie between 16 and 2048 pixels')


class SquareCutter:
    """Cuts the square around the middle of a box; beyond the picture all is black.

    Args:
      margin: What is added on each side, as a share of the longer side of the box.
      size: Side in pixels to which larger squares are shrunk.
    """

    def __init__(self, margin: float, size: int):
        self._margin, self._size = margin, size
        self.geometry: Geometry = {'geometry': 'box', 'margin': margin, 'size': size}

    def __call__(
        self, image: np.ndarray, boxes: Sequence[Box | None]
    ) -> list[np.ndarray | RefusedError]:
        """See `Cutter`."""
        no_box = RefusedError('no_box', 'a face is looked for with the parameter align')
        return [no_box if box is None else self._cut(image, box) for box in boxes]

    def _cut(self, image: np.ndarray, box: Box) -> np.ndarray:
        left, top, width, height = box
        side = max(round(max(width, height) * (1 + 2 * self._margin)), 1)
        x, y = round(left + width / 2 - side / 2), round(top + height / 2 - side / 2)
        square = np.zeros((side, side, 3), np.uint8)
        part = image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
        row, column = max(-y, 0), max(-x, 0)
        square[row : row + part.shape[0], column : column + part.shape[1]] = part
        if side <= self._size:
            return square
        return cv2.resize(square, (self._size, self._size), interpolation=cv2.INTER_AREA)


def check_faces(
    content: bytes,
    boxes: Sequence[Box | None],
    cutter: Cutter,
    *,
    formats: Collection[str] = images.FORMATS,
    min_side: int = 0,
) -> tuple[list[CheckedImage], np.ndarray]:
    """Decodes a picture once and cuts its faces out of it.

    Args:
      content: Of the file.
      boxes: Of the faces; None for one that the cutter has to find.
      cutter: What cuts.
      formats: Pillow's names of those that are read.
      min_side: Shortest side in pixels of the picture, and of a box.

    Returns:
      For each face a new JPEG and its hash or, as of `images.check_image`, why there is none:
      also `no_face` and `no_box`, and `box_outside_picture` for a box less than half of which lies
      in the picture. And the difference hash of the picture.
    """
    try:
        picture = _decode(content, formats, min_side)
        pixels, shrunk = picture.pixels, picture.pixels.shape[1] / picture.width
        reasons = [_refusal(picture, box, min_side) for box in boxes]
        wanted = [
            _scaled(box, shrunk)
            for box, reason in zip(boxes, reasons, strict=True)
            if reason is None
        ]
        cut = iter(cutter(pixels, wanted))
        faces = [next(cut) if reason is None else reason for reason in reasons]
        checked = [_check(face) for face in faces]
        return checked, near_duplicates.difference_hash(Image.fromarray(pixels))
    except RefusedError as error:
        refused = CheckedImage(refused=error.reason, detail=error.detail)
    # Whatever Pillow raises on a damaged file (OSError, SyntaxError, struct.error, ...), it is one.
    except Exception as error:
        detail = f'{type(error).__name__}: {error}'
        refused = CheckedImage(refused='unreadable_image', detail=detail)
    return [refused] * len(boxes), np.zeros(4, np.uint64)


def _decode(content: bytes, formats: Collection[str], min_side: int) -> images.Decoded:
    if not content:
        raise RefusedError('empty_file')
    try:
        picture = images.decode(images.open_image(io.BytesIO(content), formats))
    except images.TooManyPixelsError as error:
        raise RefusedError('too_many_pixels', str(error)) from None
    if min(picture.width, picture.height) < min_side:
        raise RefusedError('too_small', f'{picture.width}x{picture.height}')
    return picture


def _scaled(box: Box | None, factor: float) -> Box | None:
    """The box in a picture that is read at another size."""
    if box is None or factor == 1:
        return box
    left, top, width, height = box
    return left * factor, top * factor, width * factor, height * factor


def _refusal(picture: images.Decoded, box: Box | None, min_side: int) -> RefusedError | None:
    """Why a box is none of a face in this picture."""
    if box is None:
        return None
    left, top, width, height = box
    shown = 'x={:g}, y={:g}, width={:g}, height={:g}'.format(*box)
    if min(width, height) < min_side:
        return RefusedError('too_small', shown)
    columns, rows = picture.width, picture.height
    inside = max(min(left + width, columns) - max(left, 0), 0)
    inside *= max(min(top + height, rows) - max(top, 0), 0)
    if inside < _MIN_INSIDE * width * height:
        return RefusedError('box_outside_picture', f'{shown} of {columns}x{rows}')
    return None


def _check(face: np.ndarray | RefusedError) -> CheckedImage:
    if isinstance(face, RefusedError):
        return CheckedImage(refused=face.reason, detail=face.detail)
    if (face == face[0, 0]).all():
        return CheckedImage(refused='one_colour', detail=str(tuple(face[0, 0].tolist())))
    image, file = Image.fromarray(face), io.BytesIO()
    image.save(file, 'JPEG', quality=95, subsampling=0)
    return CheckedImage(file.getvalue(), near_duplicates.difference_hash(image))


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share over the area that they cover together."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(np.add(one[:2], one[2:]), np.add(other[:2], other[2:]))
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (math.prod(one[2:]) + math.prod(other[2:]) - shared)
