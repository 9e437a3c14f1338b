"""What every image of a prepared dataset looks like, in short, to find it in another dataset."""

import hashlib
import logging
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from hybrid import files
from hybrid.datasets import images, photographs
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads

_LOG = logging.getLogger(__name__)

FILE = 'fingerprints.npz'
_BATCH = 64


class Fingerprints(NamedTuple):
    """Of M images of a dataset.

    Attributes:
      id: str [M], of the splits of the dataset one after the other, each in its own order.
      bytes: uint64 [M], the start of the sha256 of the file's bytes.
      hash: uint64 [M, 4], the difference hash.
      description: float16 [M, `photographs.LENGTH`].
    """

    id: np.ndarray
    bytes: np.ndarray
    hash: np.ndarray
    description: np.ndarray

    def take(self, ids: np.ndarray) -> 'Fingerprints':
        """Those of the examples of these ids, [N], in their order.

        Raises:
          ValueError: when one is not there, or is the id of several images.
        """
        order = np.argsort(self.id, kind='stable')
        names, digests = self.id[order], self.bytes[order]
        if (several := (names[1:] == names[:-1]) & (digests[1:] != digests[:-1])).any():
            raise ValueError(
                f'the dataset has several images with the id {str(names[1:][several][0])!r}: give '
                'each its own over all splits'
            )
        found = np.searchsorted(self.id, ids, sorter=order)
        places = order[np.minimum(found, len(order) - 1)]
        if (gone := self.id[places] != ids).any():
            raise ValueError(
                f'{ids[gone][0]} is not in {FILE}, which is of other data: remove it from the '
                'folder of the prepared dataset'
            )
        return Fingerprints(*(column[places] for column in self))


# Those that this process has made, but could not write.
_not_kept: dict[pathlib.Path, Fingerprints] = {}


def of(builder: tfds.core.DatasetBuilder) -> Fingerprints:
    """Reads the fingerprints of a prepared dataset, which are made once and kept beside it.

    Raises:
      ValueError: when an image cannot be decoded, naming the example.
    """
    path = pathlib.Path(builder.data_path) / FILE
    count = sum(info.num_examples for info in builder.info.splits.values())
    found = _read(path)
    if found is None or len(found.id) != count:
        found = _not_kept.pop(path, None) or _make(builder)
        try:
            with files.replacing(path) as partial, partial.open('wb') as file:
                np.savez(file, **found._asdict())
        except OSError as error:  # A folder that others may only read.
            _LOG.info('%s could not be kept for the next time: %s', path, error)
            _not_kept[path] = found
    return found


def read_grey(builder: tfds.core.DatasetBuilder, split: str, places: list[int]) -> list[np.ndarray]:
    """Decodes some examples of a split, by their places, as `photographs.to_grey` does."""
    source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
    batches = [places[start : start + _BATCH] for start in range(0, len(places), _BATCH)]

    def read(batch: list[int]) -> list[np.ndarray]:
        return [photographs.to_grey(example['image']) for example in source.__getitems__(batch)]

    return [grey for batch in map_in_threads(read, batches) for grey in batch]


def _read(path: pathlib.Path) -> Fingerprints | None:
    """Reads the file; None if there is none, or none that this version has written."""
    try:
        with path.open('rb') as file, np.load(file) as stored:
            return Fingerprints(**{name: stored[name] for name in Fingerprints._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _make(builder: tfds.core.DatasetBuilder) -> Fingerprints:
    rows: list[tuple] = []
    for split in builder.info.splits:
        source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})

        def read(start: int, source: Any = source) -> list[tuple]:
            places = range(start, min(start + _BATCH, len(source)))
            return [_describe(example) for example in source.__getitems__(list(places))]

        batches = map_in_threads(read, range(0, len(source), _BATCH))
        label = f'hashing {builder.name} {split}'
        with ProgressBar(total=len(source), desc=label, unit=' images') as bar:
            for batch in batches:
                rows += batch
                bar.update(len(batch))
    return Fingerprints(*(np.array(column) for column in zip(*rows, strict=True)))


def _describe(example: dict[str, Any]) -> tuple:
    """Id, digest, difference hash and description of an example whose image is the file."""
    name, content = example['id'].decode(), example['image']
    digest = np.uint64(int.from_bytes(hashlib.sha256(content).digest()[:8]))
    difference_hash = images.check_image(content).difference_hash
    if difference_hash is None:
        raise ValueError(
            f'{name}: its image in the prepared dataset cannot be decoded; '
            'remove that folder of config.data.data_dir and prepare it again'
        )
    return name, digest, difference_hash, photographs.describe(photographs.to_grey(content))
