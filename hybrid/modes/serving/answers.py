"""What the demo answers about a photograph, and about a zip of them."""

import base64
import io
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from PIL import Image

from hybrid.modes.serving import archives
from hybrid.photos import image_files
from hybrid.photos.faces import NO_FACE, format_row

_PREVIEW = 1600  # Pixels of the longest side of the picture that the page draws on.
# What a row says of a place on disk, and of pixels, means nothing here.
_WHERE = ('path', 'face')


class Photographs(Protocol):
    """What `predict_photos` of a loaded model gives."""

    def to_rows(self) -> list[dict[str, Any]]:
        """A dict for each face, or one with an `error`."""
        ...


class Predictor(Protocol):
    """A loaded model: `hybrid.load` gives one."""

    def predict_photos(self, photos: Any) -> Photographs:
        """Finds the faces of photographs, and predicts for each."""
        ...


def about_photo(model: Predictor, content: bytes, preview: bool = False) -> dict[str, Any]:
    """Predicts for the faces of a photograph.

    Args:
      model: What predicts; several threads may use it.
      content: Of an image file.
      preview: Whether to add the picture, upright, as a data URI that every browser can show.

    Returns:
      `width` and `height` of the upright picture in pixels, and `faces`: for each what
      `--mode=predict` writes, without its path. If there are none, `message` says so.

    Raises:
      ValueError: with a sentence, when it is no image that can be read.
    """
    pixels, width, height = _read(content)
    rows = _rows(model, pixels, width, height)
    faces = [
        {name: value for name, value in row.items() if name not in _WHERE}
        for row in rows
        if row.get('face') is not None
    ]
    answer: dict[str, Any] = {'width': width, 'height': height, 'faces': faces}
    if not faces:
        error = next((row['error'] for row in rows if row.get('error')), NO_FACE)
        answer['message'] = _sentence(error)
    if preview:
        picture = Image.fromarray(pixels)
        picture.thumbnail((_PREVIEW, _PREVIEW))
        file = io.BytesIO()
        picture.save(file, 'JPEG', quality=88)
        answer['preview'] = f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'
    return answer


def about_zip(model: Predictor, content: bytes) -> Iterator[str]:
    """Predicts for the photographs of a zip.

    Args:
      model: What predicts.
      content: Of the zip file.

    Returns:
      The lines of a CSV file for spreadsheets: its head, then a line for each face, and one for
      each photograph without a face, as `--mode=predict` writes them.

    Raises:
      ValueError: at once, with a sentence, when the zip is refused as a whole.
    """
    archive, entries = archives.open_zip(content)
    # What other columns there are, only the model knows, and says of a face.
    empty = np.zeros((8, 8, 3), np.uint8)
    columns = list(_rows(model, empty, 8, 8)[0])

    def lines() -> Iterator[str]:
        yield ','.join(columns) + '\n'
        for entry in archives.read(archive, entries):
            for row in _rows_of_entry(model, entry):
                yield format_row(row, '.csv', columns, for_spreadsheets=True)

    return lines()


def _rows_of_entry(model: Predictor, entry: archives.Entry) -> list[dict[str, Any]]:
    try:
        if entry.error:
            raise ValueError(entry.error)
        rows = _rows(model, *image_files.read_bytes(entry.content))
    except Exception as error:  # Whatever is wrong with one of them, the others get their rows.
        rows = [{'error': ' '.join(str(error).split()) or type(error).__name__}]
    return [row | {'path': entry.name} for row in rows]


def _read(content: bytes) -> image_files.Decoded:
    try:
        return image_files.read_bytes(content)
    except ValueError as error:
        raise ValueError(f'The picture cannot be read: {error}.') from None


def _rows(model: Predictor, pixels: np.ndarray, width: int, height: int) -> list[dict[str, Any]]:
    """The rows of a photograph, with boxes in pixels of the file."""
    rows = model.predict_photos([pixels]).to_rows()
    scales = {'x': width, 'width': width, 'y': height, 'height': height}
    sides = {'x': pixels.shape[1], 'width': pixels.shape[1]}
    for row in rows:
        row.pop('image', None)  # There is but one.
        for name, whole in scales.items():
            if row.get(name) is not None:  # Large pictures are read at half their size.
                row[name] = round(row[name] * whole / sides.get(name, pixels.shape[0]))
        for name, value in row.items():
            if isinstance(value, np.ndarray | float) and not np.isfinite(value).all():
                row[name] = None
    return rows


def _sentence(text: str) -> str:
    return f'{text[:1].upper()}{text[1:]}.'
