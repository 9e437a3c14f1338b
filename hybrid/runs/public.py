"""What may be shown to others of commands and settings: no folders, no addresses, no names."""

import pathlib
import re
import shlex
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# The part of a path that says where files lay on somebody's machine: everything but the last name.
_PARENTS = re.compile(r'^(?:file:)?(?:/|~|\.\./).*/(?=[^/])')
# Paths in a dict that is written as text.
_QUOTED = re.compile(r"""(["'])((?:file:)?(?:/|~/|\.\./)[^"']*)\1""")
# These flags say which of several machines a process ran on.
_PROCESS_FLAGS = ('--coordinator', '--num_processes', '--process_id')


def without_folders(value: Any) -> Any:
    """Shortens every path outside the project to its last name, in JSON of any depth.

    What the path names can still be seen: `resnet18.safetensors`. A string may hold several paths,
    separated by commas, or be a dict that is written as text.
    """
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    value = value.replace(f'{_ROOT}/', '')
    if value.startswith('{'):
        return _QUOTED.sub(lambda match: f'{match[1]}{without_folders(match[2])}{match[1]}', value)
    return ','.join(_PARENTS.sub('', part.strip().rstrip('/')) for part in value.split(','))


def clean_command(command: str) -> str:
    """Writes `--flag=value` for `--flag value`, and leaves out folders and addresses."""
    words: list[str] = []
    for word in shlex.split(command):
        last = words[-1] if words else ''
        if last.startswith('--') and '=' not in last and word[:1] != '-':
            words[-1] += f'={word}'
        else:
            words.append(word)
    cleaned = []
    for word in words:
        name, equals, value = word.partition('=')
        if name in _PROCESS_FLAGS:
            continue
        cleaned.append(name + equals + without_folders(value) if equals else without_folders(word))
    return shlex.join(cleaned)
