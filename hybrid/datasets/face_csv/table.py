"""Reads the list of one's own faces: a CSV of `path, age, gender[, group, split, box]`."""

import csv
import difflib
import math
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from hybrid.datasets import ages
from hybrid.datasets.cutting import Box
from hybrid.datasets.face_csv import boxes

COLUMNS = ('path', 'age', 'gender')
OPTIONAL = ('group', 'split')
AGE_BOUNDS = ('age_min', 'age_max')  # Both may stand instead of `age`, or beside it.
GENDERS = {'male': 0, 'm': 0, 'female': 1, 'f': 1, '': -1}


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


def read_table(path: pathlib.Path) -> list[Face]:
    """Reads the table; the order of its columns does not matter, and further ones are passed over.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, or a line is wrong, naming it.
    """
    if not path.is_file():
        others = ', '.join(sorted(file.name for file in path.parent.glob('*.csv')))
        raise FileNotFoundError(
            f'{path} is missing: face_csv reads the faces from a CSV file with the columns path, '
            'age, gender and, if wanted, group and split. config.data.manual_dir is its folder, '
            f'and --config.data.parameters=\'{{"csv": NAME}}\' its name. '
            f'CSV files there: {others or "none"}'
        )
    faces: list[Face] = []
    lines: dict[str, int] = {}
    line = 0  # up to which the file was read without an error
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file, restkey='', strict=True)
            box_columns = _check_columns(path, reader.fieldnames or [])
            line = reader.line_num
            for row in reader:
                line = reader.line_num
                try:
                    face = _parse(line, row, box_columns)
                    if face.id in lines:
                        raise ValueError(
                            f'{face.id!r} is on line {lines[face.id]} too; several faces of a '
                            'picture need boxes: x, y, width, height'
                        )
                except ValueError as error:
                    raise ValueError(f'{path}, line {line}: {error}') from None
                lines[face.id] = face.line
                faces.append(face)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not UTF-8 text: {error}') from None
    except csv.Error as error:
        raise ValueError(f'{path}, line {line + 1}: {error}') from None
    if not faces:
        raise ValueError(f'{path} has no line but the first')
    return faces


def _check_columns(path: pathlib.Path, names: Sequence[str]) -> boxes.Columns | None:
    of_ages = set(AGE_BOUNDS) <= set(names)
    missing = [name for name in COLUMNS if name not in names and not (name == 'age' and of_ages)]
    if missing or len(set(names)) < len(names):
        raise ValueError(
            f'{path}, line 1: columns {", ".join(names)}; there must be {", ".join(COLUMNS)}, and '
            f'there may be {", ".join(OPTIONAL)}, each once; {" and ".join(AGE_BOUNDS)} may stand '
            'instead of age'
        )
    try:
        box_columns = boxes.find(names)
    except ValueError as error:
        raise ValueError(f'{path}, line 1: {error}') from None
    known = {*COLUMNS, *OPTIONAL, *(AGE_BOUNDS if of_ages else ()), *(box_columns or ())}
    for name in set(names) - known - boxes.of_crops(names):
        # Who misspells `group` must not get a split that leaks.
        for meant in difflib.get_close_matches(name.lower(), set(OPTIONAL) - set(names), 1, 0.75):
            raise ValueError(f'{path}, line 1: column {name!r}: is it meant to be {meant!r}?')
        print(f'{path}: column {name!r} is passed over')
    return box_columns


def _parse(line: int, row: dict[str, str], box_columns: boxes.Columns | None) -> Face:
    if '' in row or None in row.values():
        raise ValueError('as many cells as columns are needed')
    cells = {name: cell.strip() for name, cell in row.items()}
    if not cells['path']:
        raise ValueError('the path is empty')
    age = ages.parse(cells.get('age', ''))
    if set(AGE_BOUNDS) <= set(cells):
        age = ages.join(age, *(cells[name] for name in AGE_BOUNDS))
    gender = GENDERS.get(cells['gender'].lower())
    if gender is None:
        raise ValueError(
            f'gender {cells["gender"]!r} is none of male, female, m, f; leave the cell empty if it '
            'is unknown'
        )
    split = cells.get('split', '')
    if 'split' in cells and (not re.fullmatch(r'[A-Za-z]\w*', split) or split.lower() == 'all'):
        raise ValueError(f'split {split!r} is no name of a split, such as train')
    return Face(
        line,
        cells['path'],
        age.exact,
        gender,
        cells.get('group', ''),
        split,
        box=boxes.parse(cells, box_columns) if box_columns else None,
        whole=not box_columns,
        photo=cells['photo'] if boxes.of_crops(cells) else cells['path'],
        age_min=age.low,
        age_max=age.high,
    )
