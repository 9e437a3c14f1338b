"""What is known of each face of an image: the columns of tables, and its pixels."""

from typing import Any

import numpy as np

# Where a face is. `path` is the image's file, None for one that came as pixels. `face` counts the
# faces of an image from the left, from 0. The box is in pixels of the upright image as it is in its
# file, even if it was read at half that size. `turn` is by how many degrees, 0, 90, 180 or 270, the
# image has to be turned clockwise for the face to be upright, or nearest to it. Without detection
# the box is the whole image, and there is no `detection_score` (0..1) and no `turn`.
COLUMNS = ('path', 'face', 'x', 'y', 'width', 'height', 'detection_score', 'turn')
NO_FACE = 'no face found'
# What a row may hold beside `COLUMNS`, for `quality.unusual`; it is not written.
LANDMARKS = 'landmarks'

# Some of `COLUMNS`, and what is predicted of the face, or an `error`.
Row = dict[str, Any]
# One face at the size of each model, uint8 [R, R, 3].
Face = tuple[np.ndarray, ...]
