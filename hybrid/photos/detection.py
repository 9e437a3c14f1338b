"""Finds the faces of a photograph by YuNet, through OpenCV."""

import threading
from typing import Protocol

import cv2
import numpy as np
from ml_collections import ConfigDict

from hybrid import files
from hybrid.photos.search import Face, search, search_tiles, straighten, surest, tilt

MODEL_FILE = 'face_detection_yunet_2023mar.onnx'
# YuNet was trained on faces of up to about 300 pixels and misses much larger ones, so photographs
# are searched a second time at this size.
_SMALL_SIZE = 320
# YuNet finds half of the faces that are so many pixels wide, and nearly all that have twice that.
_MIN_WIDTH = 24
# Smaller pictures are enlarged to this side first: of WIKI's at 64 x 64 pixels, 632 of which were
# tried, it then finds a face in 99.7 % instead of 97.2 %.
_MIN_SIDE = 128
# What may be a face that is not upright, and is searched again at other angles.
_CANDIDATE = 0.4
# In pixels: what is smaller, and not found as an upright face at once, is hardly ever one.
_MIN_UNSURE = 16
# Tiles that are hardly larger than in the whole photograph are not worth their time.
_MIN_ZOOM = 1.5

_CREATING = threading.Lock()


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
      max_size: Longest side in pixels at which a photograph is searched whole; larger ones are
        shrunk.
      min_face: Width in pixels of the smallest faces that are looked for: where they would be too
        small in the whole photograph, it is also searched in tiles.
      turns: Whether faces that are tilted, or lie on their side or head, are brought upright, and
        photographs without an upright face are searched at all four turns.

    Raises:
      FileNotFoundError: when there is no such file; says where to get it.
      ValueError: when the file is no such model, or a setting makes no sense.
    """

    def __init__(
        self,
        model: str,
        threshold: float = 0.7,
        max_size: int = 1280,
        min_face: int = 32,
        turns: bool = True,
    ):
        if not 0 < threshold < 1:
            raise ValueError(f'config.detect.threshold={threshold} is not between 0 and 1')
        if max_size < 32:
            raise ValueError(f'config.detect.max_size={max_size} is less than 32 pixels')
        if min_face < 1:
            raise ValueError(f'config.detect.min_face={min_face} is less than 1 pixel')
        self._path = files.expanded(model)
        if not self._path.is_file():
            raise FileNotFoundError(
                f'config.detect.model={model}: no such file. Detection needs {MODEL_FILE} of '
                'OpenCV Zoo (MIT licence; project opencv_zoo, in models/face_detection_yunet); put '
                'it there, or name its place: --config.detect.model=FILE, in Python detector=FILE'
            )
        self._threshold = threshold
        self._max_size = max_size
        self._min_face = min_face
        self._turns = turns
        self._first = self._find_candidates if turns else self._find
        self._of_thread = threading.local()  # OpenCV's object serves one thread at a time.
        try:
            self._find(np.zeros((_SMALL_SIZE, _SMALL_SIZE, 3), np.uint8))
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
        faces = self._search_whole(image, 0) + self._search_tiles(image, 0)
        if self._turns:
            faces = self._straighten(image, faces, 0)
            searched = {0}
            if not faces:
                searched = {0, 90, 180, 270}
                for turn in (90, 180, 270):
                    faces += self._straighten(image, self._search_whole(image, turn), turn)
            # Where some lie on their side there may be others, which are found only so.
            for turn in {upright_turn(face) for face in faces} - {0}:
                more = [] if turn in searched else self._search_whole(image, turn)
                faces += self._straighten(image, more + self._search_tiles(image, turn), turn)
        return sorted(surest(faces), key=lambda face: (face.box[0], face.box[1]))

    def _search_whole(self, image: np.ndarray, turn: int) -> list[Face]:
        longest = max(image.shape[:2])
        found = search(image, self._first, self._whole(image), turn)
        if longest > _SMALL_SIZE and self._max_size > _SMALL_SIZE:
            found += search(image, self._first, _SMALL_SIZE / longest, turn)
        return found

    def _search_tiles(self, image: np.ndarray, turn: int) -> list[Face]:
        whole, finest = self._whole(image), min(_MIN_WIDTH / self._min_face, 1)
        if finest < _MIN_ZOOM * whole:
            return []
        return search_tiles(image, self._first, whole, finest, turn)

    def _whole(self, image: np.ndarray) -> float:
        """The scale at which a whole photograph is searched."""
        longest = max(image.shape[:2])
        return min(self._max_size / longest, max(_MIN_SIDE / longest, 1))

    def _straighten(self, image: np.ndarray, faces: list[Face], turn: int) -> list[Face]:
        """Brings the faces upright that a search at a turn found, and leaves out what is none."""
        straight = [
            straighten(image, self._find, face, self._threshold)
            for face in surest(faces)
            if (face.score >= self._threshold and not turn) or face.box[2:].max() >= _MIN_UNSURE
        ]
        return [face for face in straight if face.score >= self._threshold]

    def _find_candidates(self, image: np.ndarray) -> list[Face]:
        return self._find(image, min(self._threshold, _CANDIDATE))

    def _find(self, image: np.ndarray, threshold: float | None = None) -> list[Face]:
        detector = self._detector()
        detector.setInputSize(image.shape[1::-1])
        detector.setScoreThreshold(self._threshold if threshold is None else threshold)
        _, rows = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return [
            Face(row[:4], row[4:14].reshape(5, 2), float(row[14]))
            for row in ([] if rows is None else rows)
            if np.isfinite(row).all() and (row[2:4] > 0).all()
        ]

    def _detector(self) -> 'cv2.FaceDetectorYN':
        if not hasattr(self._of_thread, 'detector'):
            # The level is one for all threads.
            with _CREATING:
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


def create_detector(config: ConfigDict, model: str | None = None) -> FaceDetector:
    """Creates the detector that `config.detect` describes, of another file if one is named."""
    return FaceDetector(
        config.model if model is None else model,
        config.threshold,
        config.max_size,
        config.min_face,
        config.turns,
    )


def upright_turn(face: Face) -> int:
    """The quarter turn, clockwise, that brings a face nearest to upright: 0, 90, 180 or 270."""
    return round(-tilt(face) / 90) % 4 * 90
