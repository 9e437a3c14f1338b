"""What a UTKFace file name says: `[age]_[gender]_[race]_[timestamp].jpg.chip.jpg`."""

import math
import re
from typing import NamedTuple

GENDERS = ('male', 'female')
ETHNICITIES = ('white', 'black', 'asian', 'indian', 'others')

PATTERN = 'AGE_GENDER_RACE_TIMESTAMP.jpg.chip.jpg, such as 26_1_0_20170116184024662.jpg.chip.jpg'
# The published names vary: 16 to 18 digits of timestamp, a space or no dot before `jpg`. Copies
# that somebody converted end otherwise.
_FILE_NAME = re.compile(
    r'(\d{1,3})_([01])_([0-4])_(\d{16,18})\s*\.?(jpe?g|png)(\.chip\.(jpe?g|png))?', re.IGNORECASE
)


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
