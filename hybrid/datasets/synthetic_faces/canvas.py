"""The paper a face is drawn on, and the camera that photographs it: pose, light, lens, sensor."""

import cv2
import numpy as np

from hybrid.datasets.synthetic_faces.appearance import Nuisances

_FRACTION_BITS = 4  # cv2 takes coordinates as fixed-point integers
_LINE_TYPE = cv2.LINE_8  # the drawing is supersampled: smooth edges would cost a fifth more time


class Canvas:
    """A square RGB image that is drawn on in face coordinates.

    The origin is the middle of the head, x to the right, y down, and an adult head reaches from
    y = -1 to y = 1. One affine map takes them to pixels, so that pose is applied in one place and
    every part is drawn upright.
    """

    def __init__(self, size: int, nuisances: Nuisances):
        self.size = size
        self.image = np.empty((size, size, 3), np.uint8)
        self._unit = nuisances.scale * size
        cos, sin = np.cos(nuisances.rotation), np.sin(nuisances.rotation)
        stretch = np.array([[nuisances.aspect], [1 / nuisances.aspect]])
        fixed_point = 1 << _FRACTION_BITS
        self._matrix = fixed_point * self._unit * stretch * np.array([[cos, sin], [-sin, cos]])
        # The middle of the image; cv2 counts from the middle of the first pixel.
        self._offset = fixed_point * (0.5 * (size - 1) + self._unit * np.asarray(nuisances.shift))

    def _pixels(self, shapes: np.ndarray) -> list[np.ndarray]:
        pixels = (shapes @ self._matrix + self._offset).astype(np.int32)
        return [pixels] if pixels.ndim == 2 else list(pixels)

    def fill(self, colour: np.ndarray) -> None:
        """Fills the whole image."""
        cv2.rectangle(self.image, (0, 0), (self.size, self.size), colour.tolist(), cv2.FILLED)

    def polygons(self, shapes: np.ndarray, colour: np.ndarray) -> None:
        """Fills one polygon [P, 2], or N that do not overlap [N, P, 2]."""
        pixels = self._pixels(shapes)
        cv2.fillPoly(self.image, pixels, colour.tolist(), _LINE_TYPE, _FRACTION_BITS)

    def lines(
        self, shapes: np.ndarray, colour: np.ndarray, width: float, closed: bool = False
    ) -> None:
        """Draws one polyline [P, 2] or N of them [N, P, 2], `width` in face units."""
        pixels = self._pixels(shapes)
        thickness = max(1, round(width * self._unit))
        cv2.polylines(
            self.image, pixels, closed, colour.tolist(), thickness, _LINE_TYPE, _FRACTION_BITS
        )


def photograph(image: np.ndarray, nuisances: Nuisances, rng: np.random.Generator) -> np.ndarray:
    """Adds light, lens and sensor to a drawing, uint8 [S, S, 3] to uint8 [S, S, 3]."""
    size = image.shape[0]
    if nuisances.blur > 0.2:
        image = cv2.GaussianBlur(image, (3, 3), nuisances.blur)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = nuisances.light_gradient
    light = nuisances.brightness * (1 + np.float32(x) * ramp + np.float32(y) * ramp[:, None])
    gain = cv2.merge([light * np.float32(channel) for channel in nuisances.light_colour])
    noise = np.float32(nuisances.noise) * rng.standard_normal((size, size), np.float32)
    lit = cv2.multiply(image, gain, dtype=cv2.CV_32F)
    return cv2.add(lit, cv2.merge([noise] * 3), dtype=cv2.CV_8U)  # rounds and saturates
