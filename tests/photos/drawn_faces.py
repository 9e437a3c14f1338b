"""Faces of five dots on a disc, and what finds them as YuNet finds faces: best when upright."""

import cv2
import numpy as np

from hybrid.photos.search import Face, tilt

# Eye, eye, nose tip, mouth corner, mouth corner of an upright face 1 wide, from its middle.
POINTS = np.array([[-0.2, -0.2], [0.2, -0.2], [0, 0], [-0.15, 0.2], [0.15, 0.2]])
_COLOURS = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]])
_RADIUS = 0.08
# Pixels; what is narrower or wider is not found.
SMALLEST, LARGEST = 24, 330


def draw(image: np.ndarray, middle: tuple[float, float], width: float, degrees: float = 0) -> Face:
    """Draws a face that is turned clockwise, and returns it as it should be found."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    landmarks = np.array(middle) + width * POINTS @ np.array([[cos, sin], [-sin, cos]])
    for point, radius, colour in (
        (middle, 0.5, [255, 255, 255]),
        *((point, _RADIUS, colour) for point, colour in zip(landmarks, _COLOURS, strict=True)),
    ):
        # With four more bits OpenCV draws between pixels, and counts from the middle of the first.
        place = tuple(round(16 * (value - 0.5)) for value in point)
        scaled = round(16 * radius * width)
        cv2.circle(image, place, scaled, [int(c) for c in colour], -1, cv2.LINE_AA, 4)
    box = np.array([middle[0] - width / 2, middle[1] - width / 2, width, width])
    return Face(box, landmarks, 0.9)


def find(image: np.ndarray, threshold: float = 0.7) -> list[Face]:
    """Finds drawn faces; of those that are tilted much it has the landmarks of upright ones."""
    faces = []
    for x, y, area in _dots(image, _COLOURS[2]):
        width = np.sqrt(area / np.pi) / _RADIUS
        landmarks = []
        for colour in _COLOURS:
            dots = _dots(image, colour)
            near = dots[np.hypot(dots[:, 0] - x, dots[:, 1] - y) < 0.4 * width]
            landmarks += [near[0, :2]] if len(near) else [np.full(2, np.nan)]
        length = np.linalg.norm(np.mean(landmarks[3:], 0) - np.mean(landmarks[:2], 0)) / 0.4
        width = width if np.isnan(length) else length
        if not SMALLEST <= width <= LARGEST:
            continue
        box = np.array([x - width / 2, y - width / 2, width, width])
        low = np.clip(box[:2], 0, None)
        box = np.concatenate([low, np.minimum(box[:2] + width, image.shape[1::-1]) - low])
        face = Face(box, np.array(landmarks), 0.9)
        degrees = abs(tilt(face))
        if not degrees < 30:  # A part of a face, or a tilted one.
            face = Face(box, [x, y] + width * POINTS, 0.8 if degrees > 120 else 0.5)
        elif width < 1.3 * SMALLEST:
            face = face._replace(score=0.6)
        faces += [face] if face.score >= threshold else []
    return faces


def _dots(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The middle and the area of each dot of a colour, [N, 3]."""
    near = cv2.inRange(image, np.clip(colour - 100, 0, 255), np.clip(colour + 100, 0, 255))
    if not near.any():
        return np.zeros((0, 3))
    _, _, stats, middles = cv2.connectedComponentsWithStats(near)
    large = stats[1:, cv2.CC_STAT_AREA] > 4
    return np.column_stack([middles[1:] + 0.5, stats[1:, cv2.CC_STAT_AREA]])[large]
