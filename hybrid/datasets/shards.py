"""Writes datasets that are larger than memory: shard by shard, images loaded by several threads.

TFDS shuffles a split in memory up to 1,000 MiB, and above that on disk by way of TensorFlow. Here
the order is made of the examples' ids before their images are read, so that a
`tfds.core.ShardBasedBuilder` can write each shard as it comes: no second copy, no TensorFlow, and
in memory the images of one shard.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hybrid.datasets import quarantine
from hybrid.datasets.image_sources import RefusedError
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads

SHARD_BYTES = 64 * 2**20

Example = dict[str, Any]
Generator = Callable[[], Iterator[tuple[str, Example]]]


class Item(NamedTuple):
    """An example to be.

    Attributes:
      id: Its name, which decides its place in the split.
      size: Of its image file in bytes.
      row: Its place in the source.
    """

    id: str
    size: int
    row: int


def shuffle(split: str, items: Iterable[Item]) -> list[Item]:
    """Brings items into the order of a hash of split and id."""
    return sorted(items, key=lambda item: hashlib.sha256(f'{split}/{item.id}'.encode()).digest())


def cut(items: Iterable[Item]) -> list[list[Item]]:
    """Cuts items into shards: each is closed once its files come to `SHARD_BYTES`."""
    shards: list[list[Item]] = [[]]
    size = 0
    for item in items:
        if size >= SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.size
    return shards


class Shards:
    """The shards of a dataset, to be generated one after the other.

    Args:
      source: Where the examples are from, for errors.
      splits: The items of each split.
      load: The example of an item, called in several threads; raises `RefusedError`.
      dropped: Gets what is refused.

    Raises:
      ValueError: when there is no item.

    Attributes:
      kept: How many examples were written.
    """

    def __init__(
        self,
        source: str,
        splits: Mapping[str, Iterable[Item]],
        load: Callable[[Item], Example],
        dropped: quarantine.Quarantine,
    ):
        self._source, self._load, self._dropped = source, load, dropped
        self._shards = {split: cut(shuffle(split, items)) for split, items in splits.items()}
        self.kept: dict[str, int] = dict.fromkeys(self._shards, 0)
        everything = [
            item for shards in self._shards.values() for shard in shards for item in shard
        ]
        self._loaded = map_in_threads(self._try, everything)
        if not everything:
            raise ValueError(f'{source}: none of its images can be used: {dropped.summary()}')
        print(
            f'{source}: reading {len(everything):,} images; if interrupted, this starts again from '
            'nothing',
            flush=True,
        )
        self._bar = ProgressBar(total=len(everything), desc='preparing', unit=' images')

    def _try(self, item: Item) -> Example | RefusedError:
        try:
            return self._load(item)
        except RefusedError as error:
            return error

    def generators(self) -> dict[str, list[Generator]]:
        """What `ShardBasedBuilder._shard_iterators_per_split` returns; each is called once."""

        def generator(split: str, shard: list[Item], last: bool) -> Generator:
            return lambda: self._generate(split, shard, last)

        return {
            split: [generator(split, shard, shard is shards[-1]) for shard in shards]
            for split, shards in self._shards.items()
        }

    def _generate(self, split: str, shard: list[Item], last: bool) -> Iterator[tuple[str, Example]]:
        try:
            for item in shard:
                example = next(self._loaded)
                self._bar.update()
                if isinstance(example, RefusedError):
                    self._dropped.drop(item.id, example.reason, example.detail)
                    continue
                self.kept[split] += 1
                yield item.id, example
            if last and not self.kept[split]:
                raise ValueError(
                    f'{self._source}: no example is left for split {split!r}, of '
                    f'{self._bar.total:,} in all; dropped: {self._dropped.summary()}'
                )
        except BaseException:
            self._close()
            raise
        if last and split == list(self._shards)[-1]:
            self._close()

    def _close(self) -> None:
        """Ends the threads."""
        self._loaded.close()
        self._bar.close()
