"""What is wrong with a command line, in one line that names what was probably meant."""

import difflib
import os
import pathlib
import re
from collections.abc import Iterable

from absl import flags

# What absl and ml_collections raise for a wrong flag, or a config file that is none.
FLAG_ERRORS = (AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError, flags.Error)


def explain(error: Exception, argv: list[str], configs: pathlib.Path) -> str:
    """Says what is wrong with the command line in one line, with the nearest key or file.

    Args:
      error: What absl or ml_collections raised.
      argv: The command line.
      configs: Folder of the config files, among them default.py with every key.
    """
    from hybrid import default_config
    from hybrid.runs.workdir import flatten

    message = str(error)
    keys = flatten(default_config.get_config().to_dict())
    for argument in argv[1:]:
        match = re.fullmatch(r'--?(?:no)?config\.([\w.]+)(?:=.*)?', argument, re.DOTALL)
        if match and match[1] not in keys and not any(k.startswith(match[1] + '.') for k in keys):
            return f'{argument}: no such key; the nearest is --config.{nearest(match[1], keys)}'
    if match := re.match(r'flag (--config\.([\w.]+)=.*?): ', message, re.DOTALL):
        if match[2] not in keys:
            members = [key for key in keys if key.startswith(match[2] + '.')]
            return f'{match[1]}: a group of keys; set one of {", ".join(members)}'
        value = keys[match[2]]
        if isinstance(value, tuple):
            return f'{match[1]}: several are given by as many flags, --config.{match[2]}=A each'
        return f'{match[1]}: must be of type {type(value).__name__}, as the default {value!r} is'
    if match := re.search("Failed loading config file.*No such file.*'(.*)'", message, re.DOTALL):
        files = [os.path.relpath(path) for path in sorted(configs.glob('*.py'))]
        return f'--config={match[1]}: no such file; the nearest is {nearest(match[1], files)}'
    if 'before a value for --config' in message:
        return f'{message}: put --config first'
    if 'Traceback' in message:  # of the config file's own code
        message = message.strip().splitlines()[-1]
    return ' '.join(message.split())


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Returns the known name that looks most like the wrong one."""
    return difflib.get_close_matches(wrong, known, n=1, cutoff=0.0)[0]
