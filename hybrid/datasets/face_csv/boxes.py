"""The columns of a table that say where in its picture a face is."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from hybrid.datasets.cutting import Box

# Left, top, and then width and height ...
_SIZES = (('x', 'y', 'width', 'height'), ('x', 'y', 'w', 'h'), ('left', 'top', 'width', 'height'))
# ... or right and bottom, as they are called in imdb-clean, by MiVOLO, and elsewhere.
_CORNERS = (
    ('x_min', 'y_min', 'x_max', 'y_max'),
    ('xmin', 'ymin', 'xmax', 'ymax'),
    ('face_x0', 'face_y0', 'face_x1', 'face_y1'),
    ('x0', 'y0', 'x1', 'y1'),
    ('x1', 'y1', 'x2', 'y2'),
    ('left', 'top', 'right', 'bottom'),
)
# Of the faces of one picture, and of pixels, so small a difference says nothing.
_DECIMALS = 2
_MAX_PIXELS = 1e6
# What is called so is not passed over: one would train on whole photographs without noticing.
_LIKE_A_BOX = re.compile(r'(.*_)?(bbox|bounding_box|face_location|face_rect)(_.*)?|(face_)?box')

# The table of --mode=crop has these. Its boxes lie in `photo`; `path` is the face.
_OF_CROPS = {'photo', 'face', 'x', 'y', 'width', 'height', 'detection_score'}

Columns = Sequence[str]


def of_crops(names: Iterable[str]) -> set[str]:
    """The columns that --mode=crop adds to its table; none if it is another one's."""
    return {*_OF_CROPS, 'turn'} if set(names) >= _OF_CROPS else set()


def find(names: Collection[str]) -> Columns | None:
    """Finds the four columns of a box, whatever their capitals; None if there are none.

    Raises:
      ValueError: when some of the four are missing, there are two boxes, or one in another form.
    """
    if of_crops(names):
        return None
    by_name = {name.strip().lower(): name for name in names}
    sets = (*_SIZES, *_CORNERS)
    whole = [names for names in sets if set(names) <= by_name.keys()]
    if len(whole) > 1:
        shown = ' and '.join(', '.join(names) for names in whole)
        raise ValueError(f'columns {shown} are two boxes a line; leave one of them out')
    if whole and 'photo' in by_name:
        raise ValueError(
            f'columns {", ".join(whole[0])} and photo: are the boxes those of faces in path, or in '
            'photo? Remove photo, or else the boxes; a whole table of --mode=crop also has '
            f'{", ".join(sorted(_OF_CROPS - by_name.keys()))}'
        )
    if whole:
        return [by_name[name] for name in whole[0]]
    # `width` and `height` alone are those of the picture.
    found = {
        names: [n for n in names if n in by_name and n not in ('width', 'height', 'w', 'h')]
        for names in sets
    }
    nearest = max(sets, key=lambda names: len(found[names]))
    if found[nearest]:
        missing = [name for name in nearest if name not in by_name]
        raise ValueError(
            f'column {", ".join(found[nearest])}: a box also needs {", ".join(missing)}; it is x, '
            'y, width, height, or x_min, y_min, x_max, y_max'
        )
    for name in by_name.values():
        if _LIKE_A_BOX.fullmatch(name.strip().lower()):
            raise ValueError(
                f'column {name!r}: a box has four columns, x, y, width, height, or x_min, y_min, '
                'x_max, y_max; call it otherwise if it is no box of a face in the picture'
            )
    return None


def parse(cells: Mapping[str, str], columns: Columns) -> Box | None:
    """Reads the box of a line; None where its cells are empty, or all -1, as MiVOLO writes it.

    Raises:
      ValueError: when it is no box.
    """
    texts = [cells[name].strip() for name in columns]
    shown = ', '.join(f'{name} {text!r}' for name, text in zip(columns, texts, strict=True))
    if not any(texts):
        return None
    try:
        left, top, *end = (float(text) for text in texts)
    except ValueError:
        raise ValueError(f'{shown}: a box is four numbers, or four empty cells') from None
    if [left, top, *end] == [-1, -1, -1, -1]:
        return None
    sized = tuple(name.strip().lower() for name in columns) in _SIZES
    width, height = end if sized else (end[0] - left, end[1] - top)
    if not all(math.isfinite(value) for value in (left, top, width, height)):
        raise ValueError(f'{shown}: a box is four finite numbers')
    if min(width, height) < 1 or max(abs(left), abs(top), width, height) > _MAX_PIXELS:
        raise ValueError(
            f'{shown}: the box is {width:g} wide and {height:g} high; it is in pixels of the '
            'picture, and covers at least one'
        )
    left, top, width, height = (
        round(value, _DECIMALS) + 0.0 for value in (left, top, width, height)
    )
    return left, top, width, height


def name(path: str, box: Box | None) -> str:
    """The name of a face, the same whatever else is in the table: path#left,top,width,height."""
    return path if box is None else f'{path}#{",".join(map(_shortest, box))}'


def _shortest(value: float) -> str:
    return f'{value:.{_DECIMALS}f}'.rstrip('0').rstrip('.')
