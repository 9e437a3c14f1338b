"""Where results/ keeps what."""

import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'results'
# The run whose errors are broken down further.
DETAILED = 'utkface_four_combined'


def read_json(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads all JSON files of a folder: name without ending to content, in alphabetical order."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}


def predictions_path(name: str, split: str) -> pathlib.Path:
    """Returns where the predictions of a run for a split are kept."""
    return RESULTS / 'predictions' / f'{name}.{split}.csv.gz'
