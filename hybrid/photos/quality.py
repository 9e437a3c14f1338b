"""What may keep a face from being read: how dark, flat or blurred it is, how small, how turned."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

# What a measure below and above the range of the training's faces is called.
_WORDS = {
    'brightness': ('dark', 'overexposed'),
    'contrast': ('flat', 'harsh'),
    'sharpness': ('blurred', 'sharper than in training'),
}
# A measure is far outside a range if it is this share of the range away from it.
_FAR = 0.25
# A face with fewer pixels than this share of what the model wants is mostly interpolated.
_TINY = 1 / 3
# Of a face that looks at the camera the tip of the nose is half way between the eyes; here it is
# almost below one of them. Like the others this limit was chosen, not fitted to anything.
_TURNED = 0.15

Ranges = Mapping[str, Sequence[float]]


def measure(face: np.ndarray) -> dict[str, float]:
    """Measures a face that is cut out as the model wants it.

    Args:
      face: uint8 [R, R, 3], RGB.

    Returns:
      `brightness` and `contrast`, the mean and the standard deviation of its luma (0..255), and
      `sharpness`, the logarithm to base 2 of its fine details over its coarse ones: the standard
      deviation of what a Gaussian of R / 48 pixels takes away, over that of what the mean over a
      square of about R / 3 pixels takes away from the rest.
    """
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # A square takes a fifth of the time of as large a Gaussian. Its side is odd: nothing moves.
    side = 2 * (len(luma) // 6) + 1
    soft, softer = cv2.GaussianBlur(luma, (0, 0), len(luma) / 48), cv2.blur(luma, (side, side))
    fine, coarse = (cv2.meanStdDev(part)[1].item() for part in (luma - soft, soft - softer))
    mean, deviation = cv2.meanStdDev(luma)
    return {
        'brightness': mean.item(),
        'contrast': deviation.item(),
        # The floor is the rounding of pixels.
        'sharpness': float(np.log2(max(fine, 0.3) / max(coarse, 0.3))),
    }


def ranges(measured: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The range of each measure in which 99 of 100 faces lie: its percentiles 0.5 and 99.5."""
    names = measured[0] if measured else ()
    return {
        name: np.percentile([one[name] for one in measured], (0.5, 99.5)).round(4).tolist()
        for name in names
    }


def unusual(face: np.ndarray, known: Ranges, width: int, landmarks: np.ndarray | None) -> list[str]:
    """Says in which ways a face is far from those of the training.

    Args:
      face: uint8 [R, R, 3], RGB, cut out as the model wants it.
      known: From `ranges`, of faces of the training; empty if nothing is known of them.
      width: The shorter side of its box in pixels of the picture that it is from.
      landmarks: [5, 2] as of `detection`; None of a crop.

    Returns:
      Words such as 'tiny', 'dark', 'blurred' and 'turned away'.
    """
    words = ['tiny'] if width < _TINY * len(face) else []
    measured = measure(face)
    for name, (below, above) in _WORDS.items():
        if name not in known:
            continue
        low, high = known[name]
        margin = _FAR * (high - low)
        if measured[name] < low - margin:
            words.append(below)
        elif measured[name] > high + margin:
            words.append(above)
    if landmarks is not None and not _TURNED <= _place_of_nose(landmarks) <= 1 - _TURNED:
        words.append('turned away')
    return words


def _place_of_nose(landmarks: np.ndarray) -> float:
    """Where the tip of the nose is on the way from one eye to the other, as a share of it."""
    way = landmarks[1] - landmarks[0]
    return float((landmarks[2] - landmarks[0]) @ way / max(way @ way, 1e-6))
