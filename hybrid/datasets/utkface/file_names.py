"""What a UTKFace file name says: `[age]_[gender]_[race]_[timestamp].jpg.chip.jpg`."""

import math
import re
from typing import NamedTuple

GENDERS = ('male', 'female')
ETHNICITIES = ('white', 'black', 'asian', 'indian', 'others')

# The published names vary: 16 to 18 digits of timestamp, a space or no dot before `jpg`.
_FILE_NAME = re.compile(r'(\d{1,3})_([01])_([0-4])_(\d{16,18})\s*\.?jpg(\.chip\.jpg)?')


class Labels(NamedTuple):
    """Age in years (NaN = unknown), gender and ethnicity as class numbers (-1 = unknown)."""

    age: float = math.nan
    gender: int = -1
    ethnicity: int = -1


def parse(name: str) -> Labels | None:
    """Returns the labels in a file name; None if it is malformed (some lack a field)."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    age, gender, ethnicity, _ = match.group(1, 2, 3, 4)
    return Labels(float(age), int(gender), int(ethnicity))
