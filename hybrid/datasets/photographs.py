"""Finds photographs that two datasets have in common, though each has cut the face in its own way.

A difference hash takes a crop that is turned by two degrees for another image. Here pictures are
described by the directions of their edges in a grid of cells, which such a turn hardly changes, and
those that look alike are laid upon each other to the fraction of a pixel and compared. Faces have
to be cut alike, as alignment by eyes, nose and mouth does: within 15 degrees, a fifth of the size.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from hybrid.datasets import images

SIDE = 48  # Pixels of a picture that is compared; faces of 28 pixels show no more.
LENGTH = 288  # Numbers of a description: 8 directions in 6 x 6 cells.
# From where on two descriptions look alike, and two pictures that are laid upon each other are the
# same. Of 826 million pairs of UTKFace and aligned WIKI 35,000 look alike, and 82 are above the
# second one; 81 of these are the same photograph.
ALIKE, SAME = 0.36, 0.93
_DIRECTIONS, _CELL = 8, 8
_COMPONENTS = 200
_PAIRS = 2**26  # Are compared at a time, in 256 MiB.


def to_grey(content: bytes) -> np.ndarray:
    """Decodes an image file to the grey picture that is compared, uint8 [SIDE, SIDE].

    Raises:
      ValueError: when it cannot be decoded.
    """
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ValueError('the image cannot be decoded')
    return images.resize(decoded, SIDE)


def describe(grey: np.ndarray) -> np.ndarray:
    """Describes a picture by the directions of its edges, as Dalal and Triggs do (CVPR 2005).

    Args:
      grey: From `to_grey`.

    Returns:
      float16 [LENGTH]: how strong the edges of each direction are in each cell, of length 1.
    """
    soft = cv2.GaussianBlur(grey, (0, 0), 1.2).astype(np.float32)
    length, angle = cv2.cartToPolar(
        cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=1)
    )
    strength = length / (cv2.GaussianBlur(length, (0, 0), 8) + 1)  # Whatever the light is.
    turns = angle[..., None] * (_DIRECTIONS / (2 * np.pi))
    away = np.abs(turns - np.arange(_DIRECTIONS, dtype=np.float32))
    near = np.maximum(1 - np.minimum(away, _DIRECTIONS - away), 0)
    cells = cv2.GaussianBlur(strength[..., None] * near, (0, 0), _CELL / 2)
    values = np.sqrt(cells[_CELL // 2 :: _CELL, _CELL // 2 :: _CELL].ravel())
    return (values / max(float(np.linalg.norm(values)), 1e-6)).astype(np.float16)


def whiten(*described: np.ndarray) -> list[np.ndarray]:
    """Weighs down what pictures have in common, such as that they show a face.

    Args:
      *described: float16 [N, LENGTH] each, of several sets of pictures.

    Returns:
      float32 [N, D] each: their principal components, weighted, of length 1.
    """
    everything = np.concatenate(described).astype(np.float32)
    mean = everything.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(everything - mean, rowvar=False, bias=True))
    values, vectors = values[::-1][:_COMPONENTS], vectors[:, ::-1][:, :_COMPONENTS]
    # Of few pictures the small components are chance.
    weights = 1 / np.sqrt(values + values.mean() * LENGTH / len(everything) + 1e-9)
    basis = (vectors * weights).astype(np.float32)
    found = [(of_set.astype(np.float32) - mean) @ basis for of_set in described]
    return [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6) for x in found]


def alike(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the pairs, places in the one and in the other, of descriptions that look alike.

    Args:
      one: float32 [N, D], from `whiten`.
      other: float32 [M, D], from the same call.
    """
    block = max(_PAIRS // max(len(other), 1), 1)
    for start in range(0, len(one), block):
        rows, columns = np.nonzero(one[start : start + block] @ other.T >= ALIKE)
        yield from zip((rows + start).tolist(), columns.tolist(), strict=True)


def sharpened(grey: np.ndarray) -> np.ndarray:
    """The picture without what light and exposure do to it, float32, for `agreement`."""
    soft = cv2.GaussianBlur(grey, (0, 0), 1.2).astype(np.float32)
    detail = soft - cv2.GaussianBlur(soft, (0, 0), 4)
    return detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 6)) + 3)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Lays two pictures upon each other and says how well they agree, at most 1.

    The affine map is found by maximising the correlation (Evangelidis and Psarakis, PAMI 2008).

    Args:
      one: From `sharpened`.
      other: Likewise.

    Returns:
      The correlation of their middles; 0 where they cannot be laid upon each other.
    """
    start = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    everywhere = np.ones(one.shape, np.uint8)
    try:
        _, moved = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, stop, everywhere, 3)
    except cv2.error:  # It has found no way to improve.
        return 0.0
    laid = cv2.warpAffine(
        other, moved, one.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    middle = slice(5, -5)
    a, b = (x[middle, middle] - x[middle, middle].mean() for x in (one, laid))
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / length if length > 1e-6 else 0.0
