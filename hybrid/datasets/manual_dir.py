"""Says what a folder holds where something else was expected."""

import os
import pathlib
import re
from collections.abc import Mapping


def describe(folder: pathlib.Path, wanted: str, known: Mapping[str, str]) -> str:
    """Says in one line that a folder lacks something, what it holds instead, and what to do.

    Args:
      folder: The folder, which need not exist.
      wanted: What it lacks.
      known: Patterns of names, in any case, and what is to be done with files of such a name; of
        several the first counts.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for pattern, what in known.items():
        for name in names:
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return f'{folder} lacks {wanted}, but holds {name}: {what}.'
    shown = ', '.join(names[:3]) + (f' and {len(names) - 3:,} more' if len(names) > 3 else '')
    return f'{folder} lacks {wanted}; it holds {shown or "nothing"}.'
