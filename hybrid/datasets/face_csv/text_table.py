"""Reads tables as spreadsheets and scripts write them, whatever separates their cells."""

import codecs
import csv
import itertools
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import IO, NamedTuple

_SEPARATORS = (',', ';', '\t', '|')
# An image that is written out as pixels takes more than the 128 KiB that Python allows.
_MAX_CELL = 2**24
# How files begin that look like tables to those who save them.
_WORKBOOKS = (b'PK\x03\x04', b'\xd0\xcf\x11\xe0')


class Row(NamedTuple):
    """A row that is not empty.

    Attributes:
      line: The number of its last line in the file, from 1.
      cells: By the names of their columns, without blanks around them.
    """

    line: int
    cells: dict[str, str]


def read(path: pathlib.Path, known: Collection[str]) -> tuple[str, int, list[str], Iterator[Row]]:
    """Reads a table whose first line names its columns.

    The separator is the one that finds most of the known columns. Blanks around names and cells are
    passed over, as are upper case in names, columns without a name, which may repeat, empty lines,
    and empty cells beyond the last column. Text is UTF-8, or UTF-16 that says so at its start.

    Args:
      path: The file.
      known: Names of columns.

    Returns:
      The separator, the line of the names, all names in lower case, and the rows, which are read
      as they are asked for.

    Raises:
      ValueError: the file is no text, and, while rows are read, a line is damaged, naming it.
    """
    rows = _read(path, known)
    separator, line, names = next(rows)
    return separator, line, names, rows


def _read(path: pathlib.Path, known: Collection[str]) -> Iterator:
    line = 0  # up to which the file was read without an error
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    try:
        with path.open(newline='', encoding=_encoding(path)) as file:
            separator, before, text = _find_separator(file, known)
            reader = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True)
            names = _names(next(reader, []))
            line = before + reader.line_num
            yield separator, line, names
            for cells in reader:
                line = before + reader.line_num
                cells = [cell.strip() for cell in cells]
                while len(cells) > len(names) and not cells[-1]:
                    cells.pop()
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    raise ValueError(
                        f'{path}, line {line}: {len(cells)} cells, but {len(names)} columns'
                    )
                named = zip(names, cells, strict=True)
                yield Row(line, {name: cell for name, cell in named if name})
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not UTF-8 text ({error}): save it as "CSV UTF-8" in the program that wrote '
            'it'
        ) from None
    except csv.Error as error:
        raise ValueError(f'{path}, line {line + 1}: {error}') from None


def _encoding(path: pathlib.Path) -> str:
    with path.open('rb') as file:
        start = file.read(1024)
    if start.startswith(_WORKBOOKS):
        raise ValueError(f'{path} is a workbook, not a table in text: save it as "CSV UTF-8"')
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return 'utf-16'
    if b'\0' in start:
        raise ValueError(f'{path} is not UTF-8 text (it holds NUL bytes): save it as "CSV UTF-8"')
    return 'utf-8-sig'


def _find_separator(file: IO[str], known: Collection[str]) -> tuple[str, int, Iterator[str]]:
    """Returns the separator, how many lines come before the names, and the text from there on."""
    before, separator, first = 0, '', file.readline()
    while said := re.fullmatch(r'(?:sep=(.))?\s+', first):  # 'sep=;' is for Excel
        separator = said.group(1) or separator
        before, first = before + 1, file.readline()

    def score(candidate: str) -> int:
        names = next(csv.reader([first], delimiter=candidate, skipinitialspace=True), [])
        return len(set(known) & set(_names(names)))

    separator = separator or max(_SEPARATORS, key=score)
    return separator, before, itertools.chain([first] if first else [], file)


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]
