"""Finds the faces of a photograph by YuNet, through OpenCV."""

import pathlib
import threading
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from ml_collections import ConfigDict

MODEL_FILE = 'face_detection_yunet_2023mar.onnx'
# YuNet was trained on faces of up to about 300 pixels and misses much larger ones, so photographs
# are searched a second time at this size.
_SMALL_SIZE = 320
# Of two boxes, the smaller of which is covered by more than this share, the less certain one goes.
_OVERLAP = 0.5


class Face(NamedTuple):
    """One face, in pixels of the photograph; (0, 0) is its corner.

    Attributes:
      box: [4], left, top, width, height; may reach beyond the photograph.
      landmarks: [5, 2], x and y of eyes, nose tip and mouth corners, from the left of the picture.
      score: How certain the detector is, 0..1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


class Detector(Protocol):
    """What finds faces; several threads may call it at once."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Finds all faces of uint8 [H, W, 3], RGB, from left to right."""


class FaceDetector:
    """YuNet (Wu et al. 2023, "YuNet: A tiny millisecond-level face detector").

    Several threads may use it at once.

    Args:
      model: The path of its ONNX file.
      threshold: The lowest score at which something counts as a face.
      max_size: Longest side in pixels at which a photograph is searched; larger ones are shrunk.

    Raises:
      FileNotFoundError: when there is no such file; says where to get it.
      ValueError: when the file is no such model, or a setting makes no sense.
    """

    def __init__(self, model: str, threshold: float = 0.7, max_size: int = 1280):
        if not 0 < threshold < 1:
            raise ValueError(f'config.detect.threshold={threshold} is not between 0 and 1')
        if max_size < 32:
            raise ValueError(f'config.detect.max_size={max_size} is less than 32 pixels')
        self._path = pathlib.Path(model).expanduser()
        if not self._path.is_file():
            raise FileNotFoundError(
                f'config.detect.model={model}: no such file. Detection needs {MODEL_FILE} of '
                'OpenCV Zoo (MIT licence; project opencv_zoo, in models/face_detection_yunet); put '
                'it there, or name its place: --config.detect.model=FILE, in Python detector=FILE'
            )
        self._threshold = threshold
        self._max_size = max_size
        self._of_thread = threading.local()  # OpenCV's object serves one thread at a time.
        try:
            self._search(np.zeros((_SMALL_SIZE, _SMALL_SIZE, 3), np.uint8), _SMALL_SIZE)
        except cv2.error as error:
            size = self._path.stat().st_size
            raise ValueError(
                f'config.detect.model={model}: OpenCV cannot use it as a YuNet model '
                f'({size:,} bytes; {MODEL_FILE} has 232,589, a pointer to it of Git LFS 131)'
            ) from error

    def detect(self, image: np.ndarray) -> list[Face]:
        """Finds all faces, from left to right.

        Args:
          image: uint8 [H, W, 3], RGB.
        """
        longest = max(image.shape[:2])
        found = self._search(image, min(longest, self._max_size))
        if longest > _SMALL_SIZE and self._max_size > _SMALL_SIZE:
            found += self._search(image, _SMALL_SIZE)
        kept: list[Face] = []
        for face in sorted(found, key=lambda face: -face.score):
            if all(_overlap(face.box, other.box) <= _OVERLAP for other in kept):
                kept.append(face)
        return sorted(kept, key=lambda face: (face.box[0], face.box[1]))

    def _search(self, image: np.ndarray, size: int) -> list[Face]:
        height, width = image.shape[:2]
        scale = size / max(height, width)
        shape = max(round(width * scale), 1), max(round(height * scale), 1)
        if shape != (width, height):
            image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        detector = self._detector()
        detector.setInputSize(shape)
        _, rows = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        back = np.array([width / shape[0], height / shape[1]])
        return [
            Face(row[:4] * np.tile(back, 2), row[4:14].reshape(5, 2) * back, float(row[14]))
            for row in ([] if rows is None else rows)
            if np.isfinite(row).all() and (row[2:4] > 0).all()
        ]

    def _detector(self) -> 'cv2.FaceDetectorYN':
        if not hasattr(self._of_thread, 'detector'):
            level = cv2.utils.logging.getLogLevel()
            # OpenCV 5 warns that it takes the CPU, and tells errors before it raises them.
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            try:
                self._of_thread.detector = cv2.FaceDetectorYN.create(
                    str(self._path), '', (_SMALL_SIZE, _SMALL_SIZE), self._threshold
                )
            finally:
                cv2.utils.logging.setLogLevel(level)
        return self._of_thread.detector


def create_detector(config: ConfigDict) -> FaceDetector:
    """Creates the detector that `config.detect` describes."""
    return FaceDetector(config.model, config.threshold, config.max_size)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of the smaller of two boxes that the other one covers."""
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.prod(np.clip(high - low, 0, None)) / min(np.prod(a[2:]), np.prod(b[2:])))
