"""Batches out of several datasets, of each its share, in an order that is the same for everyone."""

from collections.abc import Sequence

import grain
import numpy as np

from hybrid.data import input_pipeline
from hybrid.data.input_pipeline import Batch, Examples
from hybrid.data.parts import Part


def shares(sizes: Sequence[int], weights: Sequence[float] | None) -> np.ndarray:
    """How many examples of each dataset an epoch has; it is as long as all of them together.

    Args:
      sizes: How many each dataset has.
      weights: How much is to come from each; None for its size, so that each example comes once.

    Returns:
      int64 [K], of the same sum as `sizes`, at least 1 each.
    """
    if weights is None:
        return np.array(sizes)
    wanted = np.array(weights) / np.sum(weights) * np.sum(sizes)
    counts = np.maximum(np.floor(wanted), 1).astype(np.int64)
    # What is left goes to those that miss most.
    for k in np.argsort(counts - wanted, kind='stable')[: max(np.sum(sizes) - counts.sum(), 0)]:
        counts[k] += 1
    counts[np.argmax(counts)] += np.sum(sizes) - counts.sum()
    return counts


def create_order(
    sizes: Sequence[int], weights: Sequence[float] | None, seed: int
) -> grain.MapDataset:
    """The global order of examples of several datasets.

    Each place of an epoch belongs to a dataset: those of each lie evenly over it, so that any batch
    has its share of each, to one example or so. Each dataset gives its examples in its own order,
    every one before any comes again.

    Args:
      sizes: How many examples each has.
      weights: As for `shares`.
      seed: The first one is shuffled by it, as it would be alone.

    Returns:
      Indices, for ever: those of the second dataset begin where those of the first end, and so on.
    """
    counts = shares(sizes, weights)
    owner = np.repeat(np.arange(len(sizes)), counts)
    number = np.concatenate([np.arange(count) for count in counts])  # Of the owner's, in an epoch.
    order = np.argsort((number + 0.5) / counts[owner], kind='stable')
    owners, numbers = owner[order].tolist(), number[order].tolist()
    starts, in_epoch = np.cumsum([0, *sizes[:-1]]).tolist(), counts.tolist()
    of_each = [input_pipeline.shuffled(size, (seed + k) % 2**32) for k, size in enumerate(sizes)]

    def find(place: int, index: int) -> int:
        k, epoch = owners[index], place // len(owners)
        return starts[k] + of_each[k][epoch * in_epoch[k] + numbers[index]]

    return input_pipeline.for_ever(len(owners)).map_with_index(find)


def create_train_iterator(
    parts: Sequence[Part],
    split: str,
    *,
    weights: Sequence[float] | None,
    resize_size: int,
    seed: int,
    cache_bytes: int,
    batch_size: int,
    process_index: int,
    process_count: int,
    num_threads: int,
    prefetch: int,
) -> grain.DatasetIterator:
    """An endless iterator over this process's share of shuffled batches out of several datasets.

    Args:
      parts: The datasets.
      split: What is trained on, without what is left out.
      weights: As for `shares`.
      resize_size: As for `input_pipeline.create_train_iterator`, like all that follow. Memory goes
        to the first datasets that fit.
      seed: Of the order.
      cache_bytes: Memory for images.
      batch_size: Global.
      process_index: Which share.
      process_count: Of how many.
      num_threads: Reading and decoding side by side.
      prefetch: Batches read ahead.
    """
    examples = []
    for part in parts:
        examples.append(Examples(part.builder, split, resize_size, cache_bytes))
        if examples[-1].cached:
            cache_bytes -= len(examples[-1]) * resize_size**2 * 3
    kept = [part.kept(split) for part in parts]
    owner = np.repeat(np.arange(len(parts)), [len(places) for places in kept])
    places = np.concatenate(kept)

    def load(indices: np.ndarray) -> Batch:
        batch: Batch = {}
        for k, of_part in enumerate(examples):
            mine = np.flatnonzero(owner[indices] == k)
            for name, values in of_part.load(places[indices[mine]]).items():
                if name not in batch:
                    batch[name] = np.zeros((len(indices), *values.shape[1:]), values.dtype)
                batch[name][mine] = values
        return batch

    return input_pipeline.train_batches(
        load,
        create_order([len(one) for one in kept], weights, seed),
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
        num_threads=num_threads,
        prefetch=prefetch,
    )
