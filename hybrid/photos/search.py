"""How photographs are searched: shrunk, turned and in tiles; and how faces are brought upright."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np

# Of two boxes, the smaller of which is covered by more than this share, the less certain one goes.
_OVERLAP = 0.5
# The side of tiles in pixels, and how far neighbours overlap. Whole in one of them is every face
# but for those that are so large that they are found where the photograph is smaller by _ZOOM.
_TILE, _TILE_OVERLAP, _ZOOM = 1024, 192, 5.0
# What a face keeps away from the edges of a tile, as a share of its size, if it is whole there.
_MARGIN = 0.1
# Of a face that is searched again on its own: the side of its surroundings, in sides of its box and
# in pixels; and how far its middle may move, in sides of its box.
_SURROUNDINGS, _PATCH, _MOVE, _MAX_SCALE = 2.0, 192, 0.35, 4.0
# Less surely than that, as a difference of scores, a face is not taken for a tilted one.
_SURER = 0.01


class Face(NamedTuple):
    """One face, in pixels of the photograph; (0, 0) is its corner.

    Attributes:
      box: [4], left, top, width, height; may reach beyond the photograph.
      landmarks: [5, 2], x and y of eye, eye, nose tip, mouth corner and mouth corner, those first
        that are on the left when the face is upright.
      score: How certain the detector is, 0..1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


# Finds the faces of uint8 [H, W, 3], RGB, at the size that it has.
Find = Callable[[np.ndarray], list[Face]]


def search(image: np.ndarray, find: Find, scale: float, turn: int = 0) -> list[Face]:
    """Searches a picture at another size and turned.

    Args:
      image: uint8 [H, W, 3], RGB.
      find: What searches.
      scale: The factor by which the picture is shrunk first.
      turn: The degrees by which it is turned clockwise: 0, 90, 180 or 270.
    """
    small, shrinking = _resized(image, scale)
    height, width = small.shape[:2]
    sides = (height, width) if turn in (90, 270) else (width, height)
    turning = _turning(turn, np.array([width, height]) / 2, np.array(sides) / 2)
    back = np.linalg.inv(turning @ shrinking)
    return [_moved(face, back) for face in find(_warped(small, turning, sides) if turn else small)]


def search_tiles(
    image: np.ndarray, find: Find, whole: float, finest: float, turn: int = 0
) -> list[Face]:
    """Searches a large photograph in tiles that overlap.

    A face at the edge of a tile is left to the next one, which shows it whole.

    Args:
      image: uint8 [H, W, 3], RGB.
      find: What searches.
      whole: The scale at which the whole photograph is searched, which finds what is large.
      finest: The scale at which the tiles are searched; where it is much more than `whole`, others
        are searched at scales between.
      turn: As for `search`.
    """
    found = []
    levels = math.ceil(math.log(finest / whole, _ZOOM))
    for level in range(1, levels + 1):
        scale = whole * (finest / whole) ** (level / levels)
        columns = _parts(image.shape[1], _TILE / scale, _TILE_OVERLAP / scale)
        for top, bottom in _parts(image.shape[0], _TILE / scale, _TILE_OVERLAP / scale):
            for left, right in columns:
                corner = np.array([left, top])
                beyond = np.array([right, bottom])
                for face in search(image[top:bottom, left:right], find, scale, turn):
                    face = _moved(face, _scaling([1, 1], corner))
                    margin = _MARGIN * face.box[2:].max()
                    low, high = face.box[:2] - margin, face.box[:2] + face.box[2:] + margin
                    begins = (low > corner) | (corner == 0)
                    ends = (high < beyond) | (beyond == image.shape[1::-1])
                    if (begins & ends).all():
                        found.append(face)
    return found


def straighten(image: np.ndarray, find: Find, face: Face, threshold: float) -> Face:
    """Searches a face again at eight angles, and takes the surest result.

    A detector that knows upright faces sees them on their side and head too, less surely, but with
    landmarks of an upright face.

    Args:
      image: uint8 [H, W, 3], RGB, the photograph.
      find: What searches.
      face: One of its faces.
      threshold: The score from which on it is sure to be one.

    Returns:
      The face as it was, unless another angle is clearly surer. One that was not sure is what is
      found now, whose score may be higher.
    """
    middle = face.box[:2] + face.box[2:] / 2
    side = face.box[2:].max()
    # Half of the diagonal of the surroundings, and a little more.
    reach = 0.75 * _SURROUNDINGS * side
    limit = image.shape[1::-1]
    low = np.clip(np.floor(middle - reach).astype(int), 0, limit)
    high = np.clip(np.ceil(middle + reach).astype(int), 0, limit)
    if (high <= low).any():
        return face
    part = image[low[1] : high[1], low[0] : high[0]]
    part, shrinking = _resized(part, min(_PATCH / (_SURROUNDINGS * side), _MAX_SCALE))
    shrinking = shrinking @ _scaling([1, 1], -low)
    start = (shrinking @ [*middle, 1])[:2]

    def surest_at(angle: float) -> Face | None:
        turning = _turning(angle, start, np.full(2, _PATCH / 2))
        back = np.linalg.inv(turning @ shrinking)
        faces = [_moved(face, back) for face in find(_warped(part, turning, (_PATCH, _PATCH)))]
        moves = [np.abs(other.box[:2] + other.box[2:] / 2 - middle).max() for other in faces]
        near = [other for other, move in zip(faces, moves, strict=True) if move < _MOVE * side]
        return max(near, key=lambda other: other.score, default=None)

    found = {angle: other for angle in range(0, 360, 45) if (other := surest_at(angle))}
    upright = found.pop(0, face)
    best = max(found.values(), key=lambda other: other.score, default=face)
    if best.score < upright.score + _SURER:
        return face if face.score >= threshold else upright
    # The angles are 45 degrees apart: from nearby the landmarks are better.
    return surest_at(-tilt(best)) or best


def tilt(face: Face) -> float:
    """The angle in degrees, clockwise, by which a face is turned away from being upright.

    By the line from the middle of the eyes to the middle of the mouth; between -180 and 180.
    """
    right, down = face.landmarks[3:].mean(0) - face.landmarks[:2].mean(0)
    return math.degrees(math.atan2(-right, down))


def surest(faces: Iterable[Face]) -> list[Face]:
    """Of faces that overlap leaves the surest."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(overlap(face.box, other.box) <= _OVERLAP for other in kept):
            kept.append(face)
    return kept


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of the smaller of two boxes that the other one covers."""
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.prod(np.clip(high - low, 0, None)) / min(np.prod(a[2:]), np.prod(b[2:])))


def _parts(length: int, size: float, shared: float) -> list[tuple[int, int]]:
    """Cuts a length into equal parts of at most `size` (and a pixel) that share so much."""
    count = max(math.ceil((length - shared) / (size - shared)), 1)
    size = (length + (count - 1) * shared) / count
    starts = [k * (size - shared) for k in range(count)]
    return [(math.floor(start), min(math.ceil(start + size), length)) for start in starts]


def _resized(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture at another size, and the matrix [3, 3] that brings pixels of the one to it."""
    height, width = image.shape[:2]
    shape = max(round(width * scale), 1), max(round(height * scale), 1)
    if shape != (width, height):
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, shape, interpolation=interpolation)
    return image, _scaling([shape[0] / width, shape[1] / height], np.zeros(2))


def _warped(image: np.ndarray, matrix: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    # OpenCV counts from the middle of the first pixel, the matrices from its corner.
    half = _scaling([1, 1], np.full(2, 0.5))
    return cv2.warpAffine(image, (np.linalg.inv(half) @ matrix @ half)[:2], sides)


def _scaling(factors: list[float], shift: np.ndarray) -> np.ndarray:
    return np.array([[factors[0], 0, shift[0]], [0, factors[1], shift[1]], [0, 0, 1.0]])


def _turning(degrees: float, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The matrix [3, 3] that turns clockwise, and brings one point to another."""
    cos, sin = (round(f(math.radians(degrees)), 15) for f in (math.cos, math.sin))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    matrix[:2, 2] = end - matrix[:2, :2] @ start
    return matrix


def _moved(face: Face, matrix: np.ndarray) -> Face:
    """Moves a face as a matrix [3, 3] says; its box becomes the one around the ellipse in it."""
    linear, shift = matrix[:2, :2], matrix[:2, 2]
    middle = linear @ (face.box[:2] + face.box[2:] / 2) + shift
    half = np.linalg.norm(linear * face.box[2:] / 2, axis=1)
    return Face(
        np.concatenate([middle - half, 2 * half]), face.landmarks @ linear.T + shift, face.score
    )
