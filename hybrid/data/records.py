"""Prepared TFDS splits as they are on disk: columns of all that is no image, and single images."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from hybrid.data import split_names
from hybrid.scores.outcomes import age_bounds


def read_columns(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, np.ndarray]:
    """Reads everything but the images of a split, of which it gives digests.

    Returns:
      One array [N] for each scalar feature, in the order of the split: `id` and other texts as str,
      class labels as int64 (`gender`: -1 unknown), `age` float32 years (NaN unknown), `age_min` and
      `age_max` likewise, see `input_pipeline.Examples`; `image_digest` uint64, of the bytes of the
      image file.

    Raises:
      ValueError: for a split that the dataset does not have, or that has an example twice.
    """
    split_names.check(builder, split)
    features = builder.info.features
    assert features is not None
    source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
    rows: dict[str, list[Any]] = {name: [] for name in features if name != 'image'}
    digests: list[bytes] = []
    for start in range(0, len(source), 4096):
        stop = min(start + 4096, len(source))
        for example in source.__getitems__(list(range(start, stop))):
            for name, values in rows.items():
                values.append(example[name])
            digests.append(hashlib.sha256(example['image']).digest()[:8])
    columns = {name: _column(values) for name, values in rows.items()}
    columns['image_digest'] = np.frombuffer(b''.join(digests), '>u8').astype(np.uint64)
    columns['age_min'], columns['age_max'] = age_bounds(columns)
    split_names.check_once(split, columns['id'])
    return columns


def read_images(
    builder: tfds.core.DatasetBuilder,
    split: str,
    columns: Mapping[str, np.ndarray],
    ids: Iterable[str],
) -> dict[str, np.ndarray]:
    """Reads, by their ids, images of a split at full size, in the colours that trainings see.

    Args:
      builder: The prepared dataset.
      split: The name.
      columns: From `read_columns`.
      ids: Of the examples.

    Returns:
      uint8 [H, W, 3] for each id, but for those that are not in the split.
    """
    places = {name: place for place, name in enumerate(columns['id'].tolist())}
    found = [name for name in ids if name in places]
    if not found:
        return {}
    source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
    examples = source.__getitems__([places[name] for name in found])
    decoded = [cv2.cvtColor(decode(example), cv2.COLOR_BGR2RGB) for example in examples]
    return dict(zip(found, decoded, strict=True))


def decode(example: Mapping[str, Any]) -> np.ndarray:
    """Decodes the image of an example to BGR of 8 bits, whatever its file has."""
    data = np.frombuffer(example['image'], np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None:
        raise ValueError(
            f'{example["id"].decode()}: its image in the prepared dataset cannot be '
            'decoded; remove that folder of config.data.data_dir and prepare it again'
        )
    return decoded


def _column(values: list[Any]) -> np.ndarray:
    if values and isinstance(values[0], bytes):
        return np.array([value.decode() for value in values])
    return np.array(values)


def is_known(columns: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
    """Where the `kind` of label, 'age' or 'gender', is known in columns of `read_columns`, [N]."""
    return ~np.isnan(age_bounds(columns)[0]) if kind == 'age' else columns['gender'] >= 0
