"""Reads ages as tables of faces write them: a number of years, or a range of them.

A range is a label in its own right: FairFace has `20-29` and `more than 70`, Adience `(25, 32)`.
"""

import math
import re
import unicodedata
from typing import NamedTuple

MAX_AGE = 130

# What tables write for a label that nobody knows, in small letters.
UNKNOWN_WORDS = {'', 'nan', 'none', 'null', 'na', 'n/a', '<na>', 'unknown', '?', '-'}
_DASHES = re.compile('[\u2010-\u2015\u2212~\u301c]')
_YEARS = r'\d+(?:\.\d+)?'
# What stands before and after an age, and says nothing: `age20-29`, `20-29 years old`.
_AROUND = re.compile(
    r'(?:(?:aged|ages?)[ :=_-]*)?(.*?) ?(?:years?(?: old| of age)?|yrs?|y\.?o\.?|y/o|y)?'
)
_CLOSED = re.compile(rf'(?:from |between )?({_YEARS})(?: ?(?:-|_|\.\.+) ?| (?:to|and) )({_YEARS})')
_IN_BRACKETS = re.compile(
    rf'([(\[]) ?(-?(?:{_YEARS}|inf)) ?(?:,|;|-| to ) ?({_YEARS}|\+?inf) ?([)\]])'
)
_DECADE = re.compile(r'(\d+0)\'?s')
_UP = re.compile(
    rf'(?:>=?|over|above|(?:more|older|greater|larger) than|larger|at least|from) ?({_YEARS})'
    rf'|({_YEARS})(?: years?)? ?(?:\+|-|plus|(?:and|or|&) (?:over|above|older|more|up))'
)
_DOWN = re.compile(
    rf'(?:<=|up to|at most) ?({_YEARS})|({_YEARS}) ?(?:and|or|&) (?:under|below|younger|less)'
)
_UNDER = re.compile(rf'(?:<|under|below|(?:less|younger) than|less) ?({_YEARS})')
# `9-Mar`, `Oct-19`, 2019-10-01: what a spreadsheet makes of 3-9 and 10-19.
_DATE = re.compile(r'.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec).*|\d+([-/.])\d+\1\d+.*')


class Age(NamedTuple):
    """What is known of an age: it is not below `low` and not above `high`, in years.

    Both are the same for an exact age, and NaN for one that is unknown; `high` is infinite for a
    range without an upper end.
    """

    low: float
    high: float

    @property
    def exact(self) -> float:
        """The age itself, NaN if only a range is known, or nothing."""
        return self.low if self.low == self.high else math.nan


UNKNOWN = Age(math.nan, math.nan)


def parse(cell: str) -> Age:
    """Reads one cell.

    Ages are completed years, so both ends belong to a range: `20-29` is from 20 to 29. `(20, 29)`
    and `[20, 29]` say the same, as in Adience. `(20, 30]` and `[20, 30)`, as pandas.cut writes
    them, leave one end out: 21 to 30, and 20 to 29. `under 18` is 0 to 17. `70+` and `>=70` have no
    upper end, and neither has `more than 70`, which is FairFace's name for what follows 60-69: all
    begin with 70.

    Raises:
      ValueError: when it is neither an age from 0 to `MAX_AGE` nor a range of such.
    """
    text = _DASHES.sub('-', unicodedata.normalize('NFKC', cell))
    text = text.replace('\u2265', '>=').replace('\u2264', '<=')
    text = ' '.join(text.lower().strip(' "\'').split())
    if text in UNKNOWN_WORDS:
        return UNKNOWN
    match = _AROUND.fullmatch(text)
    age = _parse(match[1] if match and match[1] else text)
    open_end = age is not None and math.isinf(age.high) and age.low <= MAX_AGE
    if age and 0 <= age.low <= age.high and (age.high <= MAX_AGE or open_end):
        return age
    if _DATE.fullmatch(text):
        raise ValueError(
            f'age {cell!r} looks like a date, which a spreadsheet makes of a range such as 3-9: '
            'take the table as it was before'
        )
    raise ValueError(
        f'age {cell!r} is no number of years from 0 to {MAX_AGE} and no range of them, such as '
        '20-29, (25, 32) or 70+; leave the cell empty if it is unknown'
    )


def _parse(text: str) -> Age | None:
    """The age that a text names, which may be out of bounds; None if it names none."""
    if match := _CLOSED.fullmatch(text):
        return Age(float(match[1]), float(match[2]))
    if match := _IN_BRACKETS.fullmatch(text):
        return _in_brackets(*match.groups())
    if match := _DECADE.fullmatch(text):
        return Age(float(match[1]), float(match[1]) + 9)
    if match := _UP.fullmatch(text):
        return Age(float(match[1] or match[2]), math.inf)
    if match := _DOWN.fullmatch(text):
        return Age(0.0, float(match[1] or match[2]))
    if match := _UNDER.fullmatch(text):
        return Age(0.0, _below(float(match[1])))
    try:
        return Age(float(text), float(text))
    except ValueError:
        return None


def _in_brackets(left: str, low_text: str, high_text: str, right: str) -> Age:
    low, high = float(low_text), float(high_text)
    half_open = (left == '(') != (right == ')')
    if half_open and left == '(':
        low = low + 1 if low.is_integer() else low
    if half_open and right == ')':
        high = _below(high)
    # pandas.cut begins a little below 0, or at minus infinity.
    return Age(max(low, 0.0) if low > -1 or math.isinf(low) else low, high)


def _below(end: float) -> float:
    """The last of the completed years that are less."""
    return end - 1 if end.is_integer() else end


def join(age: Age, low: str, high: str) -> Age:
    """Joins what the columns `age`, `age_min` and `age_max` say of a face.

    Args:
      age: What the column `age` says.
      low: The cell of `age_min`; empty for a range that begins with 0.
      high: The cell of `age_max`; empty for a range without an upper end.

    Returns:
      The age where it is known, else the range; unknown if all cells are empty.

    Raises:
      ValueError: when an end is no number of years, or the three contradict each other.
    """
    ends = Age(_end('age_min', low), _end('age_max', high))
    if all(map(math.isnan, ends)):
        return age
    bounds = Age(
        *(
            other if math.isnan(end) else end
            for end, other in zip(ends, (0.0, math.inf), strict=True)
        )
    )
    if not bounds.low <= bounds.high:
        raise ValueError(f'age_min {low!r} is above age_max {high!r}')
    if math.isnan(age.low):
        return bounds
    if not bounds.low <= age.low <= age.high <= bounds.high:
        raise ValueError(f'the age is not between age_min {low!r} and age_max {high!r}')
    return age


def _end(column: str, cell: str) -> float:
    """One end of a range in years; NaN if the cell is empty."""
    if column == 'age_max' and cell.strip().lower() in ('inf', 'infinity', '+inf'):
        return math.inf
    try:
        age = parse(cell)
    except ValueError:
        age = Age(0.0, 1.0)
    if age.low < age.high:
        raise ValueError(
            f'{column} {cell!r} is no number of years from 0 to {MAX_AGE}; leave the cell empty if '
            'the range has no such end'
        )
    return age.low
