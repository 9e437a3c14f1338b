"""The addresses of trained models: a workdir, one of its checkpoints, a member of an ensemble."""

import dataclasses
import pathlib
import re

from hybrid import files
from hybrid.runs import workdir


@dataclasses.dataclass(frozen=True)
class Address:
    """Where parameters are.

    Attributes:
      folder: A workdir.
      checkpoint: 'best', 'last', a step; '' for the best one, or the last where none was validated.
      member: Number of a member of an ensemble; None for all, or the only one.
    """

    folder: pathlib.Path
    checkpoint: str = ''
    member: int | None = None


def parse(text: str, key: str = 'config.init_from') -> Address:
    """Reads `DIR[@best|@last|@STEP][#MEMBER]`, or `DIR/checkpoints/STEP[#MEMBER]`.

    Args:
      text: The address.
      key: What it was given as, for errors.

    Raises:
      FileNotFoundError: when there is no such workdir.
    """
    match = re.fullmatch(r'(.+?)(?:@(best|last|\d+))?(?:#(\d+))?', text)
    address = Address(files.expanded(text))
    if match and not address.folder.is_dir():  # which may have such a name
        member = int(match[3]) if match[3] else None
        address = Address(files.expanded(match[1]), match[2] or '', member)
    folder = address.folder
    if folder.parent.name == 'checkpoints' and folder.name.isdecimal():
        address = dataclasses.replace(address, folder=folder.parent.parent, checkpoint=folder.name)
    if not (address.folder / workdir.CONFIG).is_file():
        raise FileNotFoundError(
            workdir.what_it_is(address.folder)
            or f'{key}={text!r}: {address.folder} is not the folder of a training; it is '
            'written DIR, DIR@best, DIR@last or DIR@STEP, and with #NUMBER for a member'
        )
    return address
