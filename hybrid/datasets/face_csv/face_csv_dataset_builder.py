"""TFDS builder of one's own faces, and of any other dataset that can be written as a CSV file."""

import collections
import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from hybrid.datasets import (
    cutting,
    geometry,
    groups,
    image_sources,
    near_duplicates,
    origin,
    quarantine,
    shards,
    splits,
)
from hybrid.datasets.face_csv import pixels, table
from hybrid.datasets.face_csv.checking import Usable, check_image, check_photo
from hybrid.datasets.image_sources import Folder, RefusedError
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.spool import Spool
from hybrid.datasets.threads import map_in_threads

_AGE_FEATURES = table.AGE_BOUNDS
_TOUCH_SECONDS = 60
_INSTRUCTIONS = """\
Put faces.csv with the columns path, age, gender and, if wanted, group, split and a box (x, y,
width, height) into that directory, or name the directory where it is: --config.data.manual_dir=DIR.
Paths are relative to it.
"""


@dataclasses.dataclass(eq=False)
class FaceCsvConfig(tfds.core.BuilderConfig):
    """Parameters of the dataset.

    Attributes:
      csv: name of the table in manual_dir.
      folder: what paths are relative to, itself relative to manual_dir.
      min_side: shortest side of an image, and of a box, in pixels.
      align: whether a detector looks for the face in each image, or in each box, and aligns it by
        eyes, nose and mouth as UTKFace's faces are.
      size: side in pixels of faces that are cut out of images; smaller boxes keep their size.
      margin: what is added to each side of a box, as a share of its longer side, if not `align`.
        YuNet's box of a face of UTKFace takes 0.97 of its height, so that 0.02 gives its framing.
      max_hamming_distance: up to how many differing bits of 256 images are near-duplicates, which
        stay together; -1 does not look for them.
      train_fraction: share of the groups in train, if the table has no column `split`.
      validation_fraction: share in validation; the rest is test.
      folds: if not 0, in how many splits fold0, fold1, ... of equal shares the groups are divided
        instead, for cross-validation.
    """

    csv: str = 'faces.csv'
    folder: str = '.'
    min_side: int = 16
    align: bool = False
    size: int = 224
    margin: float = 0.02
    max_hamming_distance: int = 16
    train_fraction: float = 0.8
    validation_fraction: float = 0.1
    folds: int = 0

    def __post_init__(self) -> None:
        if not -1 <= self.max_hamming_distance < near_duplicates.HASH_BITS:
            raise ValueError(
                f'max_hamming_distance={self.max_hamming_distance} must lie between -1 and 255'
            )
        cutting.check_size(self.size)
        if not 0 <= self.margin <= 2:
            raise ValueError(f'margin={self.margin} must lie between 0 and 2')
        if self.folds and not 2 <= self.folds <= 1000:
            raise ValueError(f'folds={self.folds} must be 0, or lie between 2 and 1000')
        splits.check_fractions(self.fractions)

    @property
    def fractions(self) -> dict[str, float]:
        """Split name -> share of the groups."""
        if self.folds:
            return {f'fold{k}': 1 / self.folds for k in range(self.folds)}
        train, validation = self.train_fraction, self.validation_fraction
        return {'train': train, 'validation': validation, 'test': 1 - train - validation}


class Builder(tfds.core.ShardBasedBuilder):
    """Faces of a CSV file: `path, age, gender[, group, split, box]`."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        FaceCsvConfig(name='default', description='Faces of a CSV file.'),
    ]
    # `face_csv/NAME` is the dataset that somebody calls NAME.
    ANY_CONFIG_NAME = True
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    # Set by `datasets.prepare`.
    create_aligner: cutting.CreateCutter | None = None
    _spool: Spool | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            'image': tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
            'age': tfds.features.Scalar(np.float32),
            'gender': tfds.features.ClassLabel(names=['male', 'female']),
            'id': tfds.features.Text(),
            'group': tfds.features.Text(),
            'leak': tfds.features.Scalar(np.bool_),
        }
        # What was prepared before ages could be ranges holds exact ones, and is read as it is.
        prepared = self.data_path / 'features.json'
        if not prepared.exists() or '"age_min"' in prepared.read_text():
            features |= {name: tfds.features.Scalar(np.float32) for name in _AGE_FEATURES}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def read_meaning(self, manual_dir: pathlib.Path) -> str:
        """Digests what the table in a folder says, however it is written."""
        folder = Folder(manual_dir / self.builder_config.folder)
        return _meaning(table.read_table(manual_dir / self.builder_config.csv, folder.locate))

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[shards.Generator]]:
        """Reads the table and hashes the images; generating reads them again and writes them."""
        config = self.builder_config
        manual_dir = pathlib.Path(dl_manager.manual_dir)
        path = manual_dir / config.csv
        self._origin = origin.Origin(manual_dir)
        self._root = manual_dir / config.folder
        self._folder = Folder(self._root, own_links=True)
        drawn: dict[str, np.ndarray] = {}
        faces = table.read_table(path, self._folder.locate, drawn)
        if faces[0].split and config.folds:
            raise ValueError(f'{path} has a column split; leave out the parameter folds')
        # What a table says about images, it may say in other words.
        self._origin.add_table(path, '' if drawn else _meaning(faces))
        for name, target in self._folder.links.items():
            if any(face.path.startswith(f'{name}/') for face in faces):
                print(f'{self._root / name} is a link: images are read from {target}')
        source = pixels.Drawn(drawn) if drawn else self._folder
        cutter: cutting.Cutter | None = None
        if config.align:
            cutter = cutting.aligner(self.create_aligner, config.size)
        elif not faces[0].whole:
            cutter = cutting.SquareCutter(config.margin, config.size)
        # What --mode=crop cut says how.
        self._geometry = cutter.geometry if cutter else geometry.read(path.parent)
        self._spool = spool = Spool(self.data_path)
        self._dropped = quarantine.Quarantine()
        self._num_rows = len(faces)

        def drop(face: table.Face, reason: str, detail: str = '') -> None:
            where = f'{config.csv}, line {face.line}'
            self._dropped.drop(face.id, reason, f'{where}: {detail}' if detail else where)

        usable = []
        photos: dict[str, list[table.Face]] = collections.defaultdict(list)
        for face in faces:
            photos[face.path].append(face)
        touched = time.monotonic()
        checked = map_in_threads(
            lambda of_photo: check_photo(source, of_photo, config.min_side, cutter), photos.values()
        )
        for of_photo, results in zip(
            photos.values(),
            ProgressBar(checked, 'checking', len(photos), unit=' images'),
            strict=True,
        ):
            if time.monotonic() - touched > _TOUCH_SECONDS:
                # Another process removes folders in which nothing has happened for an hour.
                os.utime(self.data_path)
                touched = time.monotonic()
            for face, result in zip(of_photo, results, strict=True):
                if isinstance(result, RefusedError):
                    drop(face, result.reason, result.detail)
                elif result.jpeg:
                    usable.append(result._replace(jpeg=b'', place=spool.add(result.jpeg)))
                else:
                    usable.append(result)
        if not usable:
            raise ValueError(
                f'{path}: none of its {len(faces)} images can be used: {self._dropped.summary()}. '
                f'Paths are looked for in {self._folder}; another folder is named by '
                '--config.data.parameters=\'{"folder": DIR}\''
            )
        group_of = group_names(usable, config.max_hamming_distance)
        by_split: dict[str, list[Usable]] = {}
        leaking: set[str] = set()
        if faces[0].split:
            split_of: dict[str, set[str]] = collections.defaultdict(set)
            for one in usable:
                by_split.setdefault(one.face.split, []).append(one)
                split_of[group_of[one.face.id]].add(one.face.split)
            leaking = {group for group, found in split_of.items() if len(found) > 1}
        else:
            by_split = {split: [] for split in config.fractions}
            for one in without_copies(usable, drop):
                split = splits.assign_split(group_of[one.face.id], config.fractions)
                by_split[split].append(one)
            empty = [split for split, members in by_split.items() if not members]
            if 0 < len(empty) < len(by_split):
                shares = (
                    'fewer folds'
                    if config.folds
                    else 'other shares, such as --config.data.parameters='
                    '\'{"train_fraction": 0.6, "validation_fraction": 0.2}\''
                )
                raise ValueError(
                    f'{path}: by chance none of its {len(set(group_of.values())):,} groups is in '
                    f'{" or ".join(map(repr, empty))}. Add faces, name the splits in a column '
                    f'split, or set {shares}'
                )
        rows = [one for members in by_split.values() for one in members]
        items, first = {}, 0
        for split, members in by_split.items():
            numbered = enumerate(members, first)
            items[split] = [shards.Item(one.face.id, one.size, row) for row, one in numbered]
            first += len(members)

        def load(item: shards.Item) -> shards.Example:
            one = rows[item.row]
            face, group = one.face, group_of[one.face.id]
            if one.place:
                jpeg = spool.read(one.place)
            else:
                image = check_image(source.read(face.path), config.min_side)
                if image.refused:
                    raise RefusedError(image.refused, image.detail)
                jpeg = image.jpeg
            return {
                'image': jpeg,
                'age': face.age,
                **{name: getattr(face, name) for name in _AGE_FEATURES},
                'gender': face.gender,
                'id': face.id,
                'group': group,
                'leak': group in leaking,
            }

        self._shards = shards.Shards(str(path), items, load, self._dropped)
        return self._shards.generators()

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._download_and_prepare(*args, **kwargs)
        finally:
            if self._spool:
                self._spool.close()
        kept = sum(self._shards.kept.values())
        self._dropped.write(self.data_path, files=self._num_rows, kept=kept)
        geometry.write(self.data_path, self._geometry or geometry.AS_GIVEN)
        self._origin.add_images(self._root, self._folder.seen, listed='')
        self._origin.write(self.data_path)


def _meaning(faces: Sequence[table.Face]) -> str:
    return image_sources.digest('\n'.join(repr(face[1:]) for face in faces).encode())


def group_names(usable: Sequence[Usable], max_hamming_distance: int) -> dict[str, str]:
    """Says what may not straddle a split: the table's groups, copies and near-duplicates.

    A photo that is in the table twice, under two persons, would otherwise be in two splits. So
    would the faces of one photograph, and those of a copy of it.

    Returns:
      Id -> the smallest group among those joined, or path where no group is given.
    """
    ids = [one.face.id for one in usable]
    labels = [
        np.array([one.face.group or f'{one.face.id}\n' for one in usable]),
        np.array([one.face.photo for one in usable]),
        np.array([one.digest.hex() for one in usable]),
    ]
    if max_hamming_distance >= 0:
        hashes = [np.stack([one.difference_hash for one in usable])]
        photos = [one.photo_hash for one in usable if one.photo_hash is not None]
        hashes += [np.stack(photos)] if photos else []
        labels += [near_duplicates.components(each, max_hamming_distance) for each in hashes]
    names = [one.face.group or one.face.photo for one in usable]
    found = groups.smallest(groups.join(*labels), names)
    return dict(zip(ids, found.tolist(), strict=True))


def _num_unknown(one: Usable) -> int:
    return int(np.isnan(one.face.age_min)) + int(one.face.gender < 0)


def without_copies(usable: Sequence[Usable], drop: Any) -> list[Usable]:
    """Returns one of the faces with the same bytes, and none where their labels differ.

    The one with the most labels stays, of several the first by path; it gets what only others know.
    """
    copies = collections.defaultdict(list)
    for one in sorted(usable, key=lambda one: one.face.id):
        copies[one.digest].append(one)
    kept = []
    for members in copies.values():
        ages = {
            (one.face.age_min, one.face.age_max)
            for one in members
            if not np.isnan(one.face.age_min)
        }
        genders = {one.face.gender for one in members if one.face.gender >= 0}
        if max(len(ages), len(genders)) > 1:
            for one in members:
                drop(one.face, 'conflicting_duplicate', f'group of {members[0].face.id}')
            continue
        best = min(members, key=_num_unknown)
        face = best.face
        for one in members:
            if np.isnan(face.age_min):
                ages_of = {name: getattr(one.face, name) for name in ('age', *table.AGE_BOUNDS)}
                face = face._replace(**ages_of)
            if face.gender < 0:
                face = face._replace(gender=one.face.gender)
        kept.append(best._replace(face=face))
        for one in members:
            if one is not best:
                drop(one.face, 'duplicate', f'same bytes as {best.face.id}')
    return kept
