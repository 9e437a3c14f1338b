"""The faces of one image: where they are, and their pixels cut out as the training faces were."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrid.datasets.images import resize
from hybrid.photos import alignment, image_files
from hybrid.photos.detection import Detector, upright_turn
from hybrid.photos.given import ImageLike, file_name
from hybrid.photos.rows import LANDMARKS, NO_FACE, Face, Row


def format_row(
    row: Mapping[str, Any], suffix: str, columns: Sequence[str], for_spreadsheets: bool = False
) -> str:
    """Returns the line that a row becomes in a `.csv` or a `.jsonl` file.

    Args:
      row: The row; what it has beyond the columns, such as a distribution of age, is left out.
      suffix: Of the file.
      columns: The names of its columns.
      for_spreadsheets: Whether a text that a spreadsheet would take for a formula gets an
        apostrophe before it. Then the CSV cannot be read back exactly.
    """
    row = {name: row.get(name) for name in columns}
    if suffix == '.jsonl':
        return json.dumps(row, allow_nan=False) + '\n'
    if for_spreadsheets:
        row = {name: _no_formula(value) for name, value in row.items()}
    line = io.StringIO()
    # With this line end csv quotes a carriage return in a name too.
    csv.DictWriter(line, columns, lineterminator='\r\n').writerow(row)
    return line.getvalue().removesuffix('\r\n') + '\n'


def _no_formula(value: Any) -> Any:
    formula = isinstance(value, str) and value.startswith(('=', '+', '-', '@', '\t', '\r'))
    return f"'{value}" if formula else value


def read_faces(
    image: ImageLike, detector: Detector | None, sizes: Sequence[int]
) -> list[tuple[Row, Face | None]]:
    """Reads the faces of one image.

    Args:
      image: A file or pixels, see `image_files.read`.
      detector: Finds the faces of a photograph; None takes the image for a crop of one face.
      sizes: Side R in pixels that a face should have, for each model.

    Returns:
      (row, face) for each face; for a photograph without any, one row with `NO_FACE` as its
      `error`, and None.

    Raises:
      ValueError: when the image cannot be read, with the reason in one line.
      TypeError: when it is no kind of image.
    """
    start: Row = {'path': file_name(image)}
    pixels, width, height = image_files.read(image)
    if detector is None:
        whole = {'face': 0, 'x': 0, 'y': 0, 'width': width, 'height': height}
        return [(start | whole, tuple(resize(pixels, size) for size in sizes))]
    faces: list[tuple[Row, Face | None]] = []
    scale = np.tile([width / pixels.shape[1], height / pixels.shape[0]], 2)
    for number, face in enumerate(detector.detect(pixels)):
        corners = np.concatenate([face.box[:2], face.box[:2] + face.box[2:]]) * scale
        corners = np.clip(np.rint(corners), 0, [width, height, width, height])
        x, y, right, bottom = (int(value) for value in corners)
        box = {'face': number, 'x': x, 'y': y, 'width': right - x, 'height': bottom - y}
        more: Row = {'detection_score': round(face.score, 4), 'turn': upright_turn(face)}
        more[LANDMARKS] = face.landmarks  # which `quality.unusual` looks at
        cut = tuple(alignment.align_face(pixels, face.landmarks, size) for size in sizes)
        faces.append((start | box | more, cut))
    return faces or [(start | {'error': NO_FACE}, None)]


def read_faces_or_error(
    image: ImageLike, detector: Detector | None, sizes: Sequence[int]
) -> list[tuple[Row, Face | None]]:
    """As `read_faces`, but one image that cannot be read gets a row with its `error`."""
    try:
        return read_faces(image, detector, sizes)
    # Whatever is wrong with one image, the others get their rows.
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError | OSError):  # A defect, maybe of somebody's detector.
            kind = type(error)
            reason = f'{kind.__module__}.{kind.__name__}: {reason}'.removeprefix('builtins.')
        return [({'path': file_name(image), 'error': reason}, None)]
