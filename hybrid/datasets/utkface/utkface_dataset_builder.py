"""TFDS builder of UTKFace: split by near-duplicate component, the CORAL split, a naive split."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from hybrid.datasets import images, near_duplicates, origin, quarantine, splits
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.utkface import file_names, layouts, source_files

_INSTRUCTIONS = """\
Get UTKFace, aligned and cropped, by Zhang, Song and Qi (CVPR 2017) from
https://susanqq.github.io/UTKFace/ (terms: non-commercial research). Put UTKFace.tar.gz, not
extracted, or the extracted folder UTKFace/ into that directory, or name the directory where it is:
--config.data.manual_dir=DIR. The config coral_21_60 also reads coral_split/train.csv and
coral_split/test.csv (filename,age) there.
"""


@dataclasses.dataclass(eq=False)
class UTKFaceConfig(tfds.core.BuilderConfig):
    """Parameters of the dataset.

    Attributes:
      split_scheme: `component` (everything, split by near-duplicate component), `coral_21_60` (the
        published split; its train is split again by component) or `random` (every file by itself,
        copies and all, as is often done: to show what that leaks).
      max_hamming_distance: up to how many differing bits of 256 images are near-duplicates.
      train_fraction: share of the components in train (`coral_21_60`: in train_fit).
      validation_fraction: share in validation; the rest is test (`coral_21_60`: there is no rest;
        `random`: there is no validation).
      seed: of `random`.
    """

    split_scheme: str = 'component'
    max_hamming_distance: int = 16
    train_fraction: float = 0.8
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split_scheme not in ('component', 'coral_21_60', 'random'):
            raise ValueError(
                f'split_scheme={self.split_scheme!r} must be one of component, coral_21_60, random'
            )
        if not 0 <= self.max_hamming_distance < near_duplicates.HASH_BITS:
            raise ValueError(
                f'max_hamming_distance={self.max_hamming_distance} must lie between 0 and 255'
            )
        splits.check_fractions(self.fractions)

    @property
    def fractions(self) -> dict[str, float]:
        """Split name -> share of the components."""
        train, validation = self.train_fraction, self.validation_fraction
        if self.split_scheme == 'coral_21_60':
            return {'train_fit': train, 'validation': validation}
        if self.split_scheme == 'random':
            return {'train': train, 'test': 1 - train}
        return {'train': train, 'validation': validation, 'test': 1 - train - validation}


@dataclasses.dataclass
class Face:
    """One usable file: what its name says, its bytes, and its component's smallest name."""

    name: str
    labels: file_names.Labels
    content: bytes
    jpeg: bytes
    group: str = ''
    leak: bool = False


class Builder(tfds.core.GeneratorBasedBuilder):
    """UTKFace, aligned and cropped (Zhang, Song and Qi, CVPR 2017)."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        UTKFaceConfig(name='default', description='80/10/10 by near-duplicate component.'),
        UTKFaceConfig(
            name='coral_21_60',
            description='The published CORAL split, ages 21 to 60, with its leaks marked.',
            split_scheme='coral_21_60',
            train_fraction=0.9,
        ),
        UTKFaceConfig(
            name='random_80_20',
            description='80/20 at random, with its leaks marked: not to be trained on.',
            split_scheme='random',
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    GROUPS_OF_ALL_CONFIGS = True  # A group is the same persons or pictures in all of them.

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
                    'age': tfds.features.Scalar(np.float32),
                    'gender': tfds.features.ClassLabel(names=file_names.GENDERS),
                    'ethnicity': tfds.features.ClassLabel(names=file_names.ETHNICITIES),
                    'id': tfds.features.Text(),
                    'group': tfds.features.Text(),
                    'leak': tfds.features.Scalar(np.bool_),
                }
            ),
            homepage='https://susanqq.github.io/UTKFace/',
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """Reads everything and decides about everything; generating only writes."""
        config = self.builder_config
        manual_dir = pathlib.Path(dl_manager.manual_dir)
        source = layouts.find_source(manual_dir)
        if source is None:
            raise FileNotFoundError(f'{layouts.missing(manual_dir)}\n{_INSTRUCTIONS}')
        made_from = origin.Origin(manual_dir)
        published = {}
        if config.split_scheme == 'coral_21_60':
            published = source_files.read_coral_split(manual_dir, made_from)
        ages = {name: age for split in published.values() for name, age in split.items()}

        dropped = quarantine.Quarantine()
        faces, num_files, num_parsed = read_faces(
            source, ages, config.max_hamming_distance, dropped, made_from
        )
        if published:
            by_split = coral_splits(faces, published, config.fractions, dropped)
            kept = len(by_split['train']) + len(by_split['test'])
        elif config.split_scheme == 'random':
            by_split = random_splits(faces, config.train_fraction, config.seed)
            kept = len(faces)
        else:
            by_split = component_splits(faces, config.fractions, dropped)
            kept = sum(map(len, by_split.values()))
        for split, members in by_split.items():
            if not members:
                raise ValueError(
                    f'{source.path}: {len(faces)} usable files leave split {split} empty'
                )
        dropped.write(self.data_path, files=num_files, parsed=num_parsed, kept=kept)
        made_from.write(self.data_path)
        return {split: self._generate_examples(split, by_split[split]) for split in by_split}

    def _generate_examples(
        self, split: str, faces: Sequence[Face]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for face in ProgressBar(faces, f'writing {split}', unit=' images'):
            yield (
                face.name,
                {
                    'image': face.jpeg,
                    **face.labels._asdict(),
                    'id': face.name,
                    'group': face.group,
                    'leak': face.leak,
                },
            )


def read_faces(
    source: layouts.Source,
    listed_ages: Mapping[str, float],
    max_hamming_distance: int,
    dropped: quarantine.Quarantine,
    made_from: origin.Origin,
) -> tuple[list[Face], int, int]:
    """Reads every file that has labels and an image, with its near-duplicate component.

    A malformed name is usable if it is listed: its age is known, nothing else. Components are
    formed over all usable files, before any are left out of a split.

    Returns:
      The faces by name, the number of files in the source, the number whose name parses.

    Raises:
      ValueError: the source is damaged, has no usable file, or lacks a listed one.
    """
    contents, labels, num_parsed = {}, {}, 0
    for name, content in source_files.read_files(source, dropped, made_from):
        parsed = file_names.parse(name)
        num_parsed += parsed is not None
        if parsed is None and name not in listed_ages:
            dropped.drop(name, 'malformed_name')
            continue
        parsed = parsed or file_names.Labels()
        labels[name] = parsed._replace(age=listed_ages.get(name, parsed.age))
        contents[name] = content
    num_files = len(contents) + sum(dropped.counts.values())
    if missing := listed_ages.keys() - contents.keys():
        raise ValueError(
            f'{source.path} lacks {len(missing)} files of coral_split, the first: {min(missing)}'
        )

    names = sorted(contents)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(images.check_image, [contents[name] for name in names])
        progress = ProgressBar(checked, 'checking', len(names), unit=' images')
        results = dict(zip(names, progress, strict=True))
    faces, hashes = [], []
    for name, image in results.items():
        if image.refused:
            dropped.drop(name, image.refused, image.detail)
        else:
            faces.append(Face(name, labels[name], contents[name], image.jpeg))
            hashes.append(image.difference_hash)
    if not faces:
        raise ValueError(
            f'{source.path}: none of its {num_files:,} files can be used: {dropped.summary()}. '
            f'They are called {file_names.PATTERN}'
        )
    groups = near_duplicates.group_names(
        [face.name for face in faces], np.stack(hashes), max_hamming_distance
    )
    for face in faces:
        face.group = groups[face.name]
    return faces, num_files, num_parsed


def component_splits(
    faces: Sequence[Face], fractions: Mapping[str, float], dropped: quarantine.Quarantine
) -> dict[str, list[Face]]:
    """Splits by component after dropping byte-identical files.

    If the files of a byte-identical group disagree on age or gender, nobody knows the label and all
    of them go; otherwise the smallest name stays.
    """
    copies = collections.defaultdict(list)
    for face in sorted(faces, key=lambda face: face.name):
        copies[face.content].append(face)
    by_split: dict[str, list[Face]] = {split: [] for split in fractions}
    for first, *others in copies.values():
        if any(face.labels[:2] != first.labels[:2] for face in others):
            for face in (first, *others):
                dropped.drop(face.name, 'conflicting_duplicate', f'group of {first.name}')
            continue
        for face in others:
            dropped.drop(face.name, 'duplicate', f'same bytes as {first.name}')
        by_split[splits.assign_split(first.group, fractions)].append(first)
    return by_split


def coral_splits(
    faces: Sequence[Face],
    published: Mapping[str, Mapping[str, float]],
    fractions: Mapping[str, float],
    dropped: quarantine.Quarantine,
) -> dict[str, list[Face]]:
    """Returns the published train and test, and train_fit and validation out of train.

    Sets `leak` on the faces whose component lies on both sides.
    """
    by_split: dict[str, list[Face]] = {split: [] for split in (*published, *fractions)}
    for face in faces:
        split = next((split for split, ages in published.items() if face.name in ages), None)
        if split is None:
            dropped.drop(face.name, 'not_in_published_split')
        else:
            by_split[split].append(face)
    mark_leaks(by_split['train'], by_split['test'])
    for face in by_split['train']:
        by_split[splits.assign_split(face.group, fractions)].append(face)
    return by_split


def random_splits(faces: Sequence[Face], train_fraction: float, seed: int) -> dict[str, list[Face]]:
    """Returns train and test, drawn at random whatever the files have in common.

    Sets `leak` on the faces whose component lies on both sides.
    """
    order = np.random.default_rng(seed).permutation(len(faces))
    by_name = sorted(faces, key=lambda face: face.name)
    shuffled = [by_name[place] for place in order]
    count = round(train_fraction * len(faces))
    mark_leaks(shuffled[:count], shuffled[count:])
    return {'train': shuffled[:count], 'test': shuffled[count:]}


def mark_leaks(train: Sequence[Face], test: Sequence[Face]) -> None:
    """Sets `leak` on the faces whose component lies on both sides."""
    leaking = {face.group for face in train} & {face.group for face in test}
    for face in (*train, *test):
        face.leak = face.group in leaking
