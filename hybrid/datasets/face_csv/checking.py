"""Reads the pictures of a table: which faces can be used, and how they are compared."""

import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrid.datasets import cutting, images
from hybrid.datasets.face_csv import pixels, table
from hybrid.datasets.image_sources import Folder, RefusedError
from hybrid.datasets.spool import Place

# Larger ones would take much more room than the JPEGs that they become.
_KEPT_PNG_BYTES = 2**18


class Usable(NamedTuple):
    """A face whose image can be read.

    Attributes:
      face: Its line in the table.
      size: Of its image in bytes.
      digest: The sha256 of the image.
      difference_hash: uint64 [4], of the image.
      photo_hash: uint64 [4], of the picture that it was cut out of; None if it was not.
      jpeg: The image, if it was cut out and has no `place` yet.
      place: Where what was cut out lies in the spool.
    """

    face: table.Face
    size: int
    digest: bytes
    difference_hash: np.ndarray
    photo_hash: np.ndarray | None = None
    jpeg: bytes = b''
    place: Place | None = None


def check_image(content: bytes, min_side: int) -> images.CheckedImage:
    """Decodes the image of a face, of any format; a PNG from --mode=crop loses nothing."""
    image = images.check_image(content, formats=images.FORMATS, min_side=min_side, one_colour=False)
    if image.jpeg and len(content) <= _KEPT_PNG_BYTES and _is_plain_png(content):
        return image._replace(jpeg=content)
    return image


def _is_plain_png(content: bytes) -> bool:
    try:
        with images.open_image(io.BytesIO(content), ('PNG',)) as image:
            plain = image.mode == 'RGB' and not image.has_transparency_data
            return plain and images.upright(image) is image
    except OSError:  # Another format.
        return False


def check_photo(
    source: Folder | pixels.Drawn,
    faces: Sequence[table.Face],
    min_side: int,
    cutter: cutting.Cutter | None,
) -> list[Usable | RefusedError]:
    """Reads a picture, cuts its faces out of it if need be, and hashes them.

    Args:
      source: Where it is.
      faces: Of one path.
      min_side: Shortest side of the picture, and of a box, in pixels.
      cutter: What cuts them out; None if the picture is the face.

    Returns:
      For each face what it needs to be used, or why it cannot be.
    """
    try:
        content = source.read(faces[0].path)
    except RefusedError as error:
        return [error] * len(faces)
    photo_hash = None
    if cutter:
        boxes = [face.box for face in faces]
        found, photo_hash = cutting.check_faces(content, boxes, cutter, min_side=min_side)
    else:
        found = [check_image(content, min_side)]
    results: list[Usable | RefusedError] = []
    for face, image in zip(faces, found, strict=True):
        if image.difference_hash is None:
            results.append(RefusedError(image.refused, image.detail))
            continue
        jpeg = image.jpeg if cutter else b''
        digest = hashlib.sha256(jpeg or content).digest()
        size = len(jpeg or content)
        results.append(Usable(face, size, digest, image.difference_hash, photo_hash, jpeg))
    return results
