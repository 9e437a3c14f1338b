"""Aligns the faces of a dataset as `--detect` aligns those of photographs."""

import hashlib
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid import files
from hybrid.datasets.cutting import Box, overlap
from hybrid.datasets.geometry import Geometry
from hybrid.datasets.image_sources import RefusedError
from hybrid.photos import alignment, detection
from hybrid.photos.faces import Row, read_faces

# A face that shares less with a box, of the area that the two cover, is another one's. Boxes of
# other detectors and by hand are up to twice as large as YuNet's.
_MIN_OVERLAP = 0.2
# Of the faces of a picture at least so wide, as a share of the widest, the most central is meant.
_MIN_WIDTH = 0.5
# Entries of the record that are called otherwise in the config.
KEYS = {'detector_sha256': 'model'}


class Aligner:
    """Finds the face in a box, or the one that a picture is of, and aligns it; a `Cutter`.

    Args:
      config: `config.detect`, the detector.
      size: Side of the faces in pixels.

    Raises:
      FileNotFoundError, ValueError: when there is no such detector.
    """

    def __init__(self, config: ConfigDict, size: int):
        self._detector: detection.Detector = detection.create_detector(config)
        self._size = size
        self.geometry: Geometry = describe(config, size)

    def __call__(
        self, image: np.ndarray, boxes: Sequence[Box | None]
    ) -> list[np.ndarray | RefusedError]:
        """Aligns the face of each box.

        Each box gets a face of its own: the pair that overlaps most comes first. Where there is no
        box, the face is meant that lies nearest to the middle of the picture, of those at least
        half as wide as the widest.

        Args:
          image: uint8 [H, W, 3], RGB.
          boxes: Of one or several faces.

        Returns:
          For each uint8 [S, S, 3], or a refusal for the reason `no_face`.
        """
        found = [
            (row, face[0])
            for row, face in read_faces(image, self._detector, (self._size,))
            if face is not None
        ]
        places = [_box(row) for row, _ in found]
        chosen: dict[int, int] = {}
        pairs = [
            (overlap(place, box), b, f)
            for b, box in enumerate(boxes)
            if box is not None
            for f, place in enumerate(places)
        ]
        for share, b, f in sorted(pairs, key=lambda pair: -pair[0]):
            if share >= _MIN_OVERLAP and b not in chosen and f not in chosen.values():
                chosen[b] = f
        for b, box in enumerate(boxes):
            others = [f for f in range(len(places)) if f not in chosen.values()]
            if box is None and others:
                chosen[b] = _main(others, places, image.shape)
        detail = f'the detector finds {len(found) or "none"}{" elsewhere" if found else ""}'
        no_face = RefusedError('no_face', detail)
        return [found[chosen[b]][1] if b in chosen else no_face for b in range(len(boxes))]


def describe(config: ConfigDict, size: int) -> dict[str, Any]:
    """The record of how faces are cut, see `datasets.geometry`.

    Args:
      config: `config.detect`, of a detector whose file is there.
      size: Side of the faces in pixels.
    """
    return {
        'geometry': 'aligned',
        'template': alignment.TEMPLATE_VERSION,
        'size': size,
        **settings(config),
    }


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of such a record depends on the detector; without its file, on its settings alone."""
    values = config.to_dict()
    path = files.expanded(values.pop('model'))
    digest = {'detector_sha256': _digest(path)} if path.is_file() else {}
    return digest | values


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _box(row: Row) -> Box:
    return row['x'], row['y'], row['width'], row['height']


def _main(faces: Sequence[int], places: Sequence[Box], shape: Sequence[int]) -> int:
    """The face that a picture is of."""
    widest = max(places[f][2] for f in faces)

    def from_middle(f: int) -> float:
        left, top, width, height = places[f]
        return math.hypot(left + width / 2 - shape[1] / 2, top + height / 2 - shape[0] / 2)

    return min((f for f in faces if places[f][2] >= _MIN_WIDTH * widest), key=from_middle)
