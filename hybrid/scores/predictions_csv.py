"""The file predictions.csv: rows as text from which they are read back exactly."""

import csv
import gzip
import os
import zlib
from typing import Any

import numpy as np

from hybrid import files
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.rows import COLUMNS, REQUIRED, Kind, Rows, create, declared, kind_of


def to_csv(rows: Rows) -> str:
    """The rows as CSV, the required columns first; what is unknown is an empty cell."""
    names = [*REQUIRED, *(name for name in rows if name not in REQUIRED)]
    return files.to_csv(names, *zip(*(_format(name, rows[name]) for name in names), strict=True))


def _format(name: str, values: np.ndarray) -> list[str]:
    """Cells of a column from which `_parse` reads back exactly what it holds."""
    column = declared(name)
    dtype = column.dtype if column else str
    if dtype is np.float32:  # NumPy writes the shortest text that is this float32.
        return ['' if np.isnan(value) else str(value) for value in values]
    if dtype is np.int64:
        return [(*GENDERS, '')[value] for value in values]
    return [str(value).lower() if dtype is bool else str(value) for value in values]


def write_predictions(rows: Rows, path: str | os.PathLike) -> None:
    """Writes predictions.csv; a file of that name is replaced as a whole.

    If it ends in .gz it is compressed, to the same bytes whenever that is done.
    """
    text = to_csv(rows)
    files.replace(path, gzip.compress(text.encode(), mtime=0) if _is_gzip(path) else text)


def _is_gzip(path: str | os.PathLike) -> bool:
    return os.fspath(path).lower().endswith('.gz')


def read_predictions(path: str | os.PathLike) -> Rows:
    """Reads predictions.csv, or predictions.csv.gz, into the very rows it was written from.

    A column that nobody has declared is taken for a subgroup. Without columns of the constant
    predictor, as other programs write it, that one is unknown.

    Raises:
      ValueError: for a file without the columns, or a cell that is no value of its column.
    """
    try:
        # Spreadsheets write a mark first.
        opened = gzip.open if _is_gzip(path) else open
        with opened(path, 'rt', newline='', encoding='utf-8-sig') as file:
            reader, number = csv.reader(file), 1
            numbered = []
            for line in reader:
                if line:
                    numbered.append((number, line))
                number = reader.line_num + 1
    except UnicodeDecodeError:
        raise ValueError(
            f'{path} is no CSV in UTF-8: evaluate again, or save it as such.'
        ) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f'{path} is damaged, or not compressed by gzip ({error}).') from None
    except csv.Error as error:
        raise ValueError(f'{path}, line {number} is no CSV ({error}): evaluate again.') from None
    if not numbered:
        raise ValueError(f'{path} is empty: evaluate again.')
    (_, header), *lines = numbered
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f'{path} has the column {twice[0]!r} twice; keep one.')
    absent = [name for name in REQUIRED if name not in header]
    if missing := [name for name in absent if kind_of(name) is not Kind.CONSTANT]:
        raise ValueError(f'{path} lacks the columns {missing}; it has {header}, between commas.')
    columns: dict[str, Any] = {name: [] for name in header}
    for number, line in lines:
        if len(line) != len(header):
            raise ValueError(
                f'{path}, line {number} must have {len(header)} cells, not {len(line)}: evaluate '
                'again.'
            )
        for name, cell in zip(header, line, strict=True):
            try:
                columns[name].append(_parse(name, cell))
            except (ValueError, KeyError) as error:
                wanted = 'a number such as 0.5'
                if isinstance(error, KeyError):
                    *some, last = (word or 'empty' for word in _words(name))
                    wanted = f'{", ".join(some)} or {last}'
                raise ValueError(
                    f'{path}, line {number}: {name} is {cell!r}, and must be {wanted}.'
                ) from error
    for name in absent:
        columns[name] = [-1 if COLUMNS[name].dtype is np.int64 else np.nan] * len(lines)
    return create(columns, [name for name in header if declared(name) is None])


def _parse(name: str, cell: str) -> Any:
    column = declared(name)
    if column is None or column.dtype is str:
        return cell
    if column.dtype is np.float32:
        return np.float32(cell or 'nan')
    words = _words(name)
    return words[cell.lower() if cell.lower() in words else cell]  # Spreadsheets write TRUE.


def _words(name: str) -> dict[str, Any]:
    """What may stand in a column of words, and what it means."""
    column = declared(name)
    if column is not None and column.dtype is np.int64:
        return {'male': 0, 'female': 1, '': -1}
    return {'true': True, 'false': False}
