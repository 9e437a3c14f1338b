"""How bright, contrasty and sharp the faces of a training are; prediction marks what is far off."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from hybrid import files
from hybrid.data import input_pipeline
from hybrid.photos import quality

FILE = 'face_ranges.json'
# So many faces of the training split, evenly spread over it, tell well enough.
_FACES = 1000


def record(
    workdir: pathlib.Path, builders: Sequence[tfds.core.DatasetBuilder], split: str, size: int
) -> None:
    """Writes face_ranges.json, unless it is there.

    Args:
      workdir: The run's folder.
      builders: Its prepared datasets; each gives as many faces as it can of an equal share.
      split: The training split of each.
      size: Side in pixels at which faces are read.
    """
    if (workdir / FILE).exists():
        return
    measured: list[dict[str, float]] = []
    for builder in builders:
        examples = input_pipeline.Examples(builder, split, size)
        share = _FACES // len(builders)
        places = np.unique(np.linspace(0, len(examples) - 1, share).astype(np.int64))
        for some in np.array_split(places, -(-len(places) // 100)):
            measured += map(quality.measure, examples.load(some)['image'])
    files.write_json(workdir / FILE, quality.ranges(measured))


def remove(workdir: pathlib.Path) -> None:
    """Removes face_ranges.json, if it is there."""
    (workdir / FILE).unlink(missing_ok=True)


def load(workdir: pathlib.Path) -> dict[str, list[float]]:
    """Reads face_ranges.json; empty of a run that began before there was such a file.

    Raises:
      ValueError: when it is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text())
        return {name: [float(low), float(high)] for name, (low, high) in known.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is damaged ({error}); remove it') from None
