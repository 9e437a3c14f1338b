"""Where results/ keeps what, and how commands and paths are cleaned before they are kept."""

import json
import pathlib
import re
import shlex
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'results'
# The part of a path that says where files lay on somebody's machine: everything but the last name.
PARENTS = re.compile(r'^(?:file:)?(?:/|~|\.\./).*/(?=[^/])')
# These flags say which of several machines a process ran on.
PROCESS_FLAGS = ('--coordinator', '--num_processes', '--process_id')


def read_json(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads all JSON files of a folder: name without ending to content, in alphabetical order."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}


def predictions_path(name: str, split: str) -> pathlib.Path:
    """Returns where the predictions of a run for a split are kept."""
    return RESULTS / 'predictions' / f'{name}.{split}.csv'


def without_folders(value: Any) -> Any:
    """Shortens every path outside the project to its last name, in JSON of any depth.

    What the path names can still be seen: `resnet18.safetensors`. A string may hold several paths,
    separated by commas.
    """
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if not isinstance(value, str) or value.startswith('{'):
        return value
    parts = value.replace(f'{ROOT}/', '').split(',')
    return ','.join(PARENTS.sub('', part.rstrip('/')) for part in parts)


def clean_command(command: str) -> str:
    """Writes `--flag=value` for `--flag value`, and leaves out folders and addresses."""
    words: list[str] = []
    for word in shlex.split(command):
        if words and words[-1].startswith('--config') and '=' not in words[-1] and word[:1] != '-':
            words[-1] += f'={word}'
        else:
            words.append(word)
    cleaned = []
    for word in words:
        name, equals, value = word.partition('=')
        if name not in PROCESS_FLAGS:
            cleaned.append(name + equals + without_folders(value))
    return shlex.join(cleaned)
