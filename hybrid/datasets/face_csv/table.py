"""Reads the list of one's own faces: a CSV of `path, age, gender[, group, split, box]`."""

import difflib
import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hybrid.datasets import ages
from hybrid.datasets.cutting import Box
from hybrid.datasets.face_csv import boxes, pixels, text_table

COLUMNS = ('path', 'age', 'gender')
OPTIONAL = ('group', 'split')
PHOTO = 'photo'  # What a face was cut out of: --mode=crop has this column, others may.
AGE_BOUNDS = ('age_min', 'age_max')  # Both may stand instead of `age`, or beside it.
GENDERS = {'male': 0, 'm': 0, 'female': 1, 'f': 1}
# Adience has u for an unknown gender.
GENDERS |= dict.fromkeys({*ages.UNKNOWN_WORDS, 'u'}, -1)
# What others call these columns: one is told to rename them, for they may mean something else.
ALIASES = {
    **dict.fromkeys(('file', 'filename', 'file_name', 'filepath', 'file_path'), 'path'),
    **dict.fromkeys(('image', 'image_name', 'image_path', 'img', 'img_name', 'img_path'), 'path'),
    **{'sex': 'gender', 'years': 'age', 'gender_label': 'gender', 'age_label': 'age'},
}


class Face(NamedTuple):
    """A line of the table.

    Attributes:
      line: Its number in the file, from 1.
      path: Of the image.
      age: Years, NaN if unknown, or if only a range is known.
      gender: 0 male, 1 female, -1 unknown.
      group: What may not straddle a split; '' if not said.
      split: '' if the table has no such column.
      box: Where in its picture the face is; None if that is not said.
      whole: Whether the picture is the face: the table has no columns of a box.
      photo: The picture that the face is from.
      age_min: Lower end of what is known of the age, in years; `age` itself if that is known.
      age_max: Its upper end; infinite for a range such as 70+.
    """

    line: int
    path: str
    age: float
    gender: int
    group: str = ''
    split: str = ''
    box: Box | None = None
    whole: bool = True
    photo: str = ''
    age_min: float = math.nan
    age_max: float = math.nan

    @property
    def id(self) -> str:
        """The name of the face: its path, and its box if it has one."""
        return boxes.name(self.path, self.box)


def read_table(
    path: pathlib.Path,
    locate: Callable[[str], str] = str,
    drawn: dict[str, np.ndarray] | None = None,
) -> list[Face]:
    """Reads the table; the order of its columns does not matter, and further ones are passed over.

    Args:
      path: The file, in a form that `text_table.read` reads.
      locate: Brings a path into the form in which it is looked for.
      drawn: Gets the images of a table that holds them itself, in a column `pixels`, by path; see
        `pixels`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, or a line is wrong, naming it.
    """
    if not path.is_file():
        found = [*path.parent.glob('*.csv'), *path.parent.glob('*/*.csv')]
        others = ', '.join(str(file.relative_to(path.parent)) for file in sorted(found)[:5])
        raise FileNotFoundError(
            f'{path} is missing: face_csv reads the faces from a CSV file with the columns path, '
            'age, gender and, if wanted, group and split. config.data.manual_dir is its folder, '
            f'and --config.data.parameters=\'{{"csv": NAME}}\' its name. '
            f'CSV files there and one folder below: {others or "none"}'
        )
    separator, first_line, names, rows = text_table.read(
        path, {*COLUMNS, *OPTIONAL, PHOTO, pixels.COLUMN}
    )
    # A comma may begin decimals; where it separates cells, 25,32 is more likely to be a range.
    decimals = r'(\d+),(\d)' if separator == ',' else r'(\d+),(\d+)'
    with_comma: list[tuple[int, str, str]] = []
    has_pixels = pixels.COLUMN in names and 'path' not in names
    given = [name for name in names if name]
    if has_pixels:
        print(f'{path}: {pixels.NOTE}')
        given = [*(name for name in given if name not in pixels.COLUMNS), 'path']
    box_columns = _check_columns(path, first_line, given)
    faces: list[Face] = []
    lines: dict[str, int] = {}
    for line, cells in rows:
        try:
            if has_pixels:
                cells, image = pixels.read(line, cells)
                if drawn is not None:
                    drawn[cells['path']] = image
            if match := re.fullmatch(decimals, cells.get('age', '')):
                whole, rest = match.groups()
                cells['age'] = f'{whole}.{rest}'
                with_comma.append((line, whole, rest))
            face = _parse(line, cells, box_columns)
            face = face._replace(path=locate(face.path), photo=locate(face.photo))
            if face.id in lines:
                raise ValueError(
                    f'{face.id!r} is on line {lines[face.id]} too; several faces of a picture '
                    'need boxes: x, y, width, height'
                )
        except ValueError as error:
            raise ValueError(f'{path}, line {line}: {error}') from None
        lines[face.id] = face.line
        faces.append(face)
    if not faces:
        raise ValueError(f'{path} has no line but the first')
    if with_comma and _may_be_ranges(faces, with_comma):
        line, whole, rest = with_comma[0]
        raise ValueError(
            f'{path}, line {line}: does the comma of the age {whole},{rest} begin decimals, or is '
            f'it between the ends of a range? Write {whole}.{rest} or {whole}-{rest}'
        )
    return faces


def _may_be_ranges(faces: Sequence[Face], with_comma: Sequence[tuple[int, str, str]]) -> bool:
    """Whether ages such as 25,32 may be ranges: others are, or all of them look like some."""
    if any(face.age_min < face.age_max for face in faces):
        return True
    rising = all(int(whole) < int(rest) for _, whole, rest in with_comma)
    return rising and any(
        len(rest) == 2 and rest not in ('25', '50', '75') for _, _, rest in with_comma
    )


def _check_columns(path: pathlib.Path, line: int, names: Sequence[str]) -> boxes.Columns | None:
    if len(given := set(AGE_BOUNDS) & set(names)) == 1:
        (lacking,) = {*AGE_BOUNDS} - given
        raise ValueError(
            f'{path}, line {line}: there is a column {min(given)}, but none {lacking}: add it, '
            'with empty cells where a range has no such end'
        )
    of_ages = set(AGE_BOUNDS) <= set(names)
    missing = [name for name in COLUMNS if name not in names and not (name == 'age' and of_ages)]
    if missing or len(set(names)) < len(names):
        renamed = [f'{n!r} to {ALIASES[n]!r}' for n in names if ALIASES.get(n) in missing]
        hint = f'; rename {", ".join(renamed)}' if renamed else ''
        raise ValueError(
            f'{path}, line {line}: columns {_quoted(names) or "without names"}; there must be '
            f'{_quoted(COLUMNS)}, and there may be {_quoted(OPTIONAL)}, each once; '
            f'{" and ".join(AGE_BOUNDS)} may stand instead of age{hint}'
        )
    try:
        box_columns = boxes.find(names)
    except ValueError as error:
        raise ValueError(f'{path}, line {line}: {error}') from None
    known = {*COLUMNS, *OPTIONAL, PHOTO, *(AGE_BOUNDS if of_ages else ()), *(box_columns or ())}
    of_crops = boxes.of_crops(names)
    if PHOTO in names and not of_crops:
        print(f'{path}: faces with the same {PHOTO!r} stay in one split')
    for name in sorted(set(names) - known - of_crops):
        # Who misspells `group` must not get a split that leaks.
        known_names = {*OPTIONAL, *AGE_BOUNDS} - set(names)
        for meant in difflib.get_close_matches(name, known_names, 1, 0.75):
            raise ValueError(
                f'{path}, line {line}: column {name!r}: is it meant to be {meant!r}? '
                'If not, give it another name'
            )
        print(f'{path}: column {name!r} is passed over')
    return box_columns


def _quoted(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names))


def _parse(line: int, cells: dict[str, str], box_columns: boxes.Columns | None) -> Face:
    if not cells['path']:
        raise ValueError('the path is empty')
    age = ages.parse(cells.get('age', ''))
    if set(AGE_BOUNDS) <= set(cells):
        age = ages.join(age, *(cells[name] for name in AGE_BOUNDS))
    gender = GENDERS.get(cells['gender'].lower())
    if gender is None:
        raise ValueError(
            f'gender {cells["gender"]!r} is none of male, female, m, f; '
            + (
                'write one of these instead of 0 and 1'
                if cells['gender'] in ('0', '1')
                else 'leave the cell empty if it is unknown'
            )
        )
    split = cells.get('split', '')
    if 'split' in cells and (not re.fullmatch(r'[A-Za-z]\w*', split) or split.lower() == 'all'):
        raise ValueError(
            f'split {split!r} is no name of a split, such as train or fold0: a letter, then '
            'letters, digits and _'
        )
    return Face(
        line,
        cells['path'],
        age.exact,
        gender,
        cells.get('group', ''),
        split,
        box=boxes.parse(cells, box_columns) if box_columns else None,
        whole=not box_columns,
        photo=cells.get(PHOTO) or cells['path'],
        age_min=age.low,
        age_max=age.high,
    )
