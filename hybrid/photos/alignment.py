"""Brings the face of a photograph to the position, size and tilt that faces have in UTKFace."""

import math

import cv2
import numpy as np

# Where the eye, eye, nose tip, mouth corner and mouth corner (the left ones of the picture first)
# that YuNet finds lie in UTKFace's aligned and cropped images, in shares of the side. Measured on
# 1,984 of them (by hash of the name; 200x200): medians of each coordinate, then moved by one
# similarity transform so that the median transform of an image onto them is the identity. That the
# face is not quite in the middle is the data's.
TEMPLATE = (
    np.array([[58.03, 57.54], [136.67, 58.61], [94.57, 100.31], [62.82, 136.60], [128.91, 137.59]])
    / 200
)
# Recorded with what is cut: another template, another number.
TEMPLATE_VERSION = 1
# Limits the memory for a face that is thousands of pixels wide.
_MAX_OVERSAMPLING = 16


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, scale and shift that bring points nearest to others, by least squares.

    The closed form of Umeyama 1991, "Least-squares estimation of transformation parameters between
    two point patterns", in two dimensions and without mirroring.

    Args:
      source: [N, 2], x and y.
      target: [N, 2], where they should go.

    Returns:
      [2, 3]: target is about `matrix[:, :2] @ source + matrix[:, 2]`.

    Raises:
      ValueError: when all points of the source are the same.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    x, y = (source - source_mean).T.astype(np.float64)
    u, v = (target - target_mean).T.astype(np.float64)
    spread = np.sum(x * x + y * y)
    if not spread > 0:
        raise ValueError('the landmarks of the face all lie in one point')
    cos, sin = np.sum(x * u + y * v) / spread, np.sum(x * v - y * u) / spread
    matrix = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([matrix, target_mean - matrix @ source_mean])


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Cuts a face out of a photograph as UTKFace's crops are cut.

    Beyond the photograph all is black, as it is there. Faces that shrink are averaged over the area
    of a pixel, those that grow are interpolated linearly.

    Args:
      image: uint8 [H, W, 3].
      landmarks: [5, 2] in pixels, in the order of `TEMPLATE`; (0, 0) is the corner of the image.
      size: Side of the result in pixels.

    Returns:
      uint8 [size, size, 3]

    Raises:
      ValueError: when all landmarks are the same.
    """
    matrix = similarity_transform(landmarks, TEMPLATE * size)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if not scale > 0:
        raise ValueError('the landmarks do not form a face')
    # A tenth of a pixel more than a whole factor is left to the interpolation.
    oversampling = min(max(math.ceil(1 / scale - 0.1), 1), _MAX_OVERSAMPLING)
    matrix *= oversampling
    side = size * oversampling

    # Only the part of the photograph that is shown: OpenCV limits the size of what it warps.
    inverse = np.linalg.inv(matrix[:, :2])
    corners = (inverse @ (np.array([[0, side, 0, side], [0, 0, side, side]]) - matrix[:, 2:])).T
    margin = 2
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(0)).astype(int) - margin, 0, limit - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + margin, low + 1, limit)
    part = image[low[1] : high[1], low[0] : high[0]]
    matrix[:, 2] += matrix[:, :2] @ low

    # OpenCV counts from the middle of the first pixel, landmarks from its corner.
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    crop = cv2.warpAffine(part, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if oversampling > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return crop
