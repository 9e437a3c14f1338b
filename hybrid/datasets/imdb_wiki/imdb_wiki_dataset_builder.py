"""TFDS builder of IMDB-WIKI: half a million crops, filtered by metadata, split by person."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from hybrid.datasets import cutting, geometry, images, origin, quarantine, shards, splits
from hybrid.datasets.image_sources import Archive, Folder, RefusedError
from hybrid.datasets.imdb_wiki import layouts, metadata

DATABASES = ('imdb', 'wiki')
GENDERS = ('male', 'female')

_INSTRUCTIONS = """\
Get the faces of IMDB-WIKI, by Rothe, Timofte and Van Gool (IJCV 2018), "faces only", from
https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/ (terms: academic research only). Put
imdb_crop.tar and wiki_crop.tar, not extracted, or the extracted folders imdb_crop/ and wiki_crop/,
into that directory, or name the directory where they are: --config.data.manual_dir=DIR. The configs
imdb and wiki need one of the two. The metadata, imdb.mat and wiki.mat, are in them, or beside them.
"""


@dataclasses.dataclass(eq=False)
class IMDBWikiConfig(tfds.core.BuilderConfig):
    """Parameters of the dataset.

    Attributes:
      databases: which of `imdb` and `wiki`.
      min_face_score: lowest score of the face that was found; where none was, a row is left out.
      max_second_face_score: highest score of a second face.
      min_age: lowest age in years.
      max_age: highest age in years.
      min_side: shortest side of an image in pixels.
      align: whether a detector looks for the face in each image and aligns it by eyes, nose and
        mouth as UTKFace's faces are; else the images are taken as they are.
      size: side in pixels of faces that are aligned.
      train_fraction: share of the persons in train.
      validation_fraction: share in validation; the rest is test.
    """

    databases: tuple[str, ...] = DATABASES
    min_face_score: float = 1.0
    max_second_face_score: float = 0.0
    min_age: float = 0.0
    max_age: float = 100.0
    min_side: int = 32
    align: bool = False
    size: int = 224
    train_fraction: float = 0.8
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not self.databases or not set(self.databases) <= set(DATABASES):
            raise ValueError(f'databases={self.databases!r} must be of imdb, wiki')
        if not self.min_age <= self.max_age:
            raise ValueError(f'min_age={self.min_age} is above max_age={self.max_age}')
        cutting.check_size(self.size)
        splits.check_fractions(self.fractions)

    @property
    def fractions(self) -> dict[str, float]:
        """Split name -> share of the persons."""
        train, validation = self.train_fraction, self.validation_fraction
        return {'train': train, 'validation': validation, 'test': 1 - train - validation}


class Builder(tfds.core.ShardBasedBuilder):
    """IMDB-WIKI, faces cropped by its authors (Rothe, Timofte and Van Gool, IJCV 2018)."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        IMDBWikiConfig(name='imdb_wiki', description='Both databases.'),
        IMDBWikiConfig(name='imdb', description='Actors.', databases=('imdb',)),
        IMDBWikiConfig(name='wiki', description='People of Wikipedia.', databases=('wiki',)),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    GROUPS_OF_ALL_CONFIGS = True  # A group is the same persons or pictures in all of them.
    # Set by `datasets.prepare`.
    create_aligner: cutting.CreateCutter | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
                    'age': tfds.features.Scalar(np.float32),
                    'gender': tfds.features.ClassLabel(names=GENDERS),
                    'database': tfds.features.ClassLabel(names=DATABASES),
                    'id': tfds.features.Text(),
                    'group': tfds.features.Text(),
                }
            ),
            homepage='https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/',
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[shards.Generator]]:
        """Decides about every row by its metadata; generating reads the images of those left."""
        config = self.builder_config
        manual_dir = pathlib.Path(dl_manager.manual_dir)
        self._cutter = cutting.aligner(self.create_aligner, config.size) if config.align else None
        self._manual_dir = manual_dir
        databases = self._databases = {
            name: layouts.find_database(manual_dir, name, _INSTRUCTIONS)
            for name in config.databases
        }
        for database in databases.values():
            report_refused(database.images)
        rows = {name: database.rows for name, database in databases.items()}
        groups = metadata.group_persons(rows)
        self._dropped = quarantine.Quarantine()
        items: dict[str, list[shards.Item]] = {split: [] for split in config.fractions}
        for name, database in databases.items():
            for item in keep_rows(database, config, self._dropped):
                split = splits.assign_split(groups[name][item.row], config.fractions)
                items[split].append(item)

        def load(item: shards.Item) -> shards.Example:
            name = item.id.partition('/')[0]
            return self._load(databases[name], groups[name], item)

        self._num_rows = sum(len(database.rows.path) for database in databases.values())
        self._shards = shards.Shards(str(manual_dir), items, load, self._dropped)
        return self._shards.generators()

    def _load(
        self, database: layouts.Database, groups: np.ndarray, item: shards.Item
    ) -> shards.Example:
        """Makes the example of a row; called in several threads."""
        rows, row = database.rows, item.row
        content, min_side = database.images.read(rows.path[row]), self.builder_config.min_side
        if self._cutter:
            (image,), _ = cutting.check_faces(
                content, [None], self._cutter, formats=('JPEG', 'PNG'), min_side=min_side
            )
        else:
            image = images.check_image(content, min_side=min_side, one_colour=False)
        if image.refused:
            raise RefusedError(image.refused, image.detail)
        return {
            'image': image.jpeg,
            'age': rows.age[row],
            'gender': int(rows.gender[row]),
            'database': rows.database,
            'id': item.id,
            'group': groups[row],
        }

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        kept = sum(self._shards.kept.values())
        self._dropped.write(self.data_path, files=self._num_rows, kept=kept)
        record = self._cutter.geometry if self._cutter else geometry.AS_GIVEN
        geometry.write(self.data_path, record)
        made_from = origin.Origin(self._manual_dir)
        for database in self._databases.values():
            if database.table:
                made_from.add_table(database.table)
            if isinstance(database.images, Folder):
                made_from.add_images(database.path, database.images.seen, listed='')
            else:
                made_from.add_archive(database.path)
        made_from.write(self.data_path)


def report_refused(source: Archive | Folder) -> None:
    """Says which members of an archive no row can have."""
    refused = source.refused if isinstance(source, Archive) else {}
    for name, why in list(refused.items())[:3]:
        print(f'{source}: {name!r} is not read: {why}')
    if len(refused) > 3:
        print(f'{source}: nor are {len(refused) - 3} others like these')


def keep_rows(
    database: layouts.Database, config: IMDBWikiConfig, dropped: quarantine.Quarantine
) -> Iterator[shards.Item]:
    """Yields the rows that pass the filter and whose image is there, the others to `dropped`."""
    rows = database.rows
    reasons = metadata.refusals(
        rows,
        config.min_face_score,
        config.max_second_face_score,
        config.min_age,
        config.max_age,
    )
    seen: set[str] = set()
    for row, (path, reason) in enumerate(zip(rows.path.tolist(), reasons.tolist(), strict=True)):
        name = f'{rows.database}/{path}'
        if reason:
            dropped.drop(name, reason)
        elif path in seen:
            dropped.drop(name, 'repeated_path')
        else:
            seen.add(path)
            try:
                size = database.images.size(path)
            except RefusedError as error:
                dropped.drop(name, error.reason, error.detail)
            else:
                yield shards.Item(name, size, row)
