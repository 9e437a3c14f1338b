"""Prepared TFDS splits to batches, by Grain.

Every process builds the same global order, `shuffle(seed).repeat()`, and takes every count-th
element from its own index on, so neither devices nor processes change what is trained on.
Evaluation sees every example once: the last batch is padded, and `mask` says where.
"""

import collections
import itertools
import math
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from typing import Any

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds

from hybrid.data import split_names
from hybrid.data.records import decode
from hybrid.datasets.images import resize
from hybrid.scores.outcomes import age_bounds

# One thread a decoder: several decoders run side by side.
cv2.setNumThreads(0)

# For ever. Repeated without a number a dataset has sys.maxsize elements, and cannot be sliced.
_EPOCHS = 2**31

Batch = dict[str, np.ndarray]


class Examples:
    """A split's images and labels at training size, by index; decoded once if they fit in memory.

    Args:
      builder: A prepared builder.
      split: Its split.
      resize_size: Side R in pixels of the images.
      cache_bytes: Memory that the images of the whole split may take; if they need more, every one
        is read and decoded again whenever it is asked for.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, resize_size: int, cache_bytes: int = 0
    ):
        # Decoded here: TFDS would take another third of the time, all of it under Python's lock.
        self._source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
        self._size = resize_size
        shape = (len(self._source), resize_size, resize_size, 3)
        self.cached = math.prod(shape) <= cache_bytes
        if self.cached:
            # Memory is taken page by page, as the examples come.
            self._images = np.empty(shape, np.uint8)
            self._labels = np.empty((len(self._source), 4), np.float32)
            self._filled = np.zeros(len(self._source), bool)

    def __len__(self) -> int:
        return len(self._source)

    def load(self, indices: np.ndarray) -> Batch:
        """Loads the examples of a batch.

        Args:
          indices: [B] places in the split; -1 is padding, a black image of unknown labels.

        Returns:
          `image` uint8 [B, R, R, 3], `age` float32 [B] years (NaN unknown, or a range), `age_min`
          and `age_max` likewise: the ends of a range (the upper one may be infinite), and the age
          itself where it is exact; `gender` int32 [B] (-1 unknown).
        """
        images = np.zeros((len(indices), self._size, self._size, 3), np.uint8)
        labels = np.full((len(indices), 4), (np.nan, np.nan, np.nan, -1), np.float32)
        wanted = indices >= 0
        if self.cached:
            known = wanted & self._filled[indices]
            images[known], labels[known] = (
                self._images[indices[known]],
                self._labels[indices[known]],
            )
            wanted &= ~known
        places = np.flatnonzero(wanted)
        # A record by itself would cost more time under Python's lock than its image to decode.
        examples = self._source.__getitems__(indices[places].tolist()) if len(places) else []
        for place, example in zip(places, examples, strict=True):
            # The colours are turned around once they are few.
            image = resize(decode(example), self._size)
            images[place] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            labels[place] = example['age'], *age_bounds(example), example['gender']
        if self.cached:
            # Two threads may do this for the same example: they write the same.
            new = indices[places]
            self._images[new], self._labels[new] = images[places], labels[places]
            self._filled[new] = True
        return {
            'image': images,
            **{name: labels[:, k].copy() for k, name in enumerate(('age', 'age_min', 'age_max'))},
            'gender': labels[:, 3].astype(np.int32),
        }


def create_train_iterator(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    batch_size: int,
    resize_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
    prefetch: int = 2,
    cache_bytes: int = 0,
) -> grain.DatasetIterator:
    """An endless iterator over this process's share of shuffled batches.

    Args:
      builder: A prepared builder.
      split: Its split.
      batch_size: Global; every process gets batch_size / process_count examples.
      resize_size: Side R in pixels of the images.
      seed: Of the order.
      process_index: Which share.
      process_count: Of how many.
      num_threads: Reading and decoding side by side.
      prefetch: Batches read ahead.
      cache_bytes: See `Examples`.

    Returns:
      A Grain iterator, with `get_state` and `set_state`, of dicts: `image` uint8 [B, R, R, 3],
      `age`, `age_min` and `age_max` float32 [B] years (NaN unknown), `gender` int32 [B] (-1
      unknown), `mask` float32 [B] of ones, `position` int32 [B], the place in the global batch.
    """
    split_names.check(builder, split)
    examples = Examples(builder, split, resize_size, cache_bytes)
    return train_batches(
        examples.load,
        shuffled(len(examples), seed),
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
        num_threads=num_threads,
        prefetch=prefetch,
    )


def shuffled(count: int, seed: int) -> grain.MapDataset:
    """The numbers below `count`, in another order in each epoch, for ever."""
    return grain.MapDataset.range(count).seed(seed).shuffle().repeat(_EPOCHS)


def for_ever(count: int) -> grain.MapDataset:
    """The numbers below `count` in their order, again and again."""
    return grain.MapDataset.range(count).repeat(_EPOCHS)


def train_batches(
    load: Callable[[np.ndarray], Batch],
    order: grain.MapDataset,
    *,
    batch_size: int,
    process_index: int,
    process_count: int,
    num_threads: int,
    prefetch: int,
) -> grain.DatasetIterator:
    """The batches of `create_train_iterator`, given the global order.

    Args:
      load: Loads examples by their indices, as `Examples.load` does.
      order: Indices, for ever: what is at place n is at place n % batch_size of a global batch.
      batch_size: As for `create_train_iterator`, like all that follow.
      process_index: Which share.
      process_count: Of how many.
      num_threads: Reading and decoding side by side.
      prefetch: Batches read ahead.
    """

    def load_batch(batch: tuple[np.ndarray, np.ndarray]) -> Batch:
        indices, places = batch
        return {
            **load(indices),
            'mask': np.ones(len(indices), np.float32),
            'position': (places % batch_size).astype(np.int32),
        }

    # The index is the place in the global order; slicing after it leaves it what it is.
    dataset = order.map_with_index(lambda place, index: (index, place))
    dataset = dataset[process_index::process_count]
    # Images are loaded a batch at a time, each batch by one thread.
    dataset = dataset.batch(batch_size // process_count).map(load_batch)
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=num_threads + prefetch
    )
    return iter(dataset.to_iter_dataset(options))


def evaluation_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    batch_size: int,
    resize_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
) -> Iterator[Batch]:
    """Yields this process's share of a split, in order, each example once, padded to whole batches.

    Every process yields the same number of batches, ceil(N / batch_size).

    Returns:
      Dicts as of `create_train_iterator`, with `index` int32 [B], the place in the split, instead
      of `position`. Padding has mask 0, index -1 and a black image.
    """
    split_names.check(builder, split)
    examples = Examples(builder, split, resize_size)
    steps = -(-len(examples) // batch_size)

    def load(indices: np.ndarray) -> Batch:
        indices = np.where(indices < len(examples), indices, -1)
        return {
            **examples.load(indices),
            'mask': (indices >= 0).astype(np.float32),
            'index': indices.astype(np.int32),
        }

    dataset = grain.MapDataset.range(steps * batch_size)[process_index::process_count]
    dataset = dataset.batch(batch_size // process_count).map(load)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
    return iter(dataset.to_iter_dataset(options))


def prefetch_to_device(
    iterator: Iterator[Any], put: Callable[[Any], Any], size: int
) -> Generator[tuple[Any, Any]]:
    """Keeps `size` batches on their way to the devices while the step computes.

    Args:
      iterator: Of host batches; if it has `get_state`, that is handed on.
      put: Moves one host batch to the devices.
      size: How many ahead.

    Yields:
      (device batch, the iterator's state after this batch was drawn): the state to save with a
      checkpoint is that of the last batch trained on, not of the last one read ahead.
    """
    get_state = getattr(iterator, 'get_state', lambda: None)

    def fetch():
        batch = next(iterator, None)
        return None if batch is None else (put(batch), get_state())

    queue: collections.deque[futures.Future] = collections.deque()
    with futures.ThreadPoolExecutor(1, thread_name_prefix='prefetch') as pool:
        try:
            for _ in itertools.repeat(None, max(size, 1)):
                queue.append(pool.submit(fetch))
            while (item := queue.popleft().result()) is not None:
                queue.append(pool.submit(fetch))
                yield item
        finally:
            for future in queue:
                future.cancel()
