"""TFDS builder of drawn faces: no download, no manual data, generated in seconds."""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from hybrid.datasets.synthetic_faces import appearance, drawing

# Part of every example's seed, so a number must never change its meaning.
_SPLIT_NUMBERS = {'train': 0, 'validation': 1, 'test': 2}


@dataclasses.dataclass(eq=False)
class SyntheticFacesConfig(tfds.core.BuilderConfig):
    """Size and seed of the dataset.

    Attributes:
      image_size: side of the square images in pixels.
      num_train: examples in the split `train`.
      num_validation: examples in the split `validation`.
      num_test: examples in the split `test`.
      seed: another seed gives other faces.
      unknown_fraction: share of ages, and independently of genders, that are left unknown.
      age_noise: standard deviation in years of a normal error of the labels of age, which are at
        least 0 all the same; the faces are those of the same seed without it.
    """

    image_size: int = 96
    num_train: int = 5_000
    num_validation: int = 500
    num_test: int = 1_000
    seed: int = 0
    unknown_fraction: float = 0.0
    age_noise: float = 0.0

    def __post_init__(self) -> None:
        lowest = {'image_size': 16, 'num_train': 1, 'num_validation': 1, 'num_test': 1}
        lowest |= {'seed': 0, 'age_noise': 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if value < low:
                raise ValueError(f'synthetic_faces: {name}={value}, must be at least {low}')
        if not 0 <= self.unknown_fraction <= 1:
            raise ValueError(
                f'synthetic_faces: unknown_fraction={self.unknown_fraction}, must be in [0, 1]'
            )


def make_example(config: SyntheticFacesConfig, split: str, index: int) -> dict[str, Any]:
    """Draws one example, which depends on (seed, split, index) and on no other example.

    Args:
      config: `image_size`, `seed`, `unknown_fraction` and `age_noise` are read.
      split: `train`, `validation` or `test`.
      index: place in the split.

    Returns:
      The features `image` (JPEG file, RGB `[S, S, 3]`), `age` in years or NaN if unknown, `gender`
      as index into `appearance.GENDERS` or -1 if unknown, `id` and `group`.
    """
    rng = np.random.default_rng([config.seed, _SPLIT_NUMBERS[split], index])
    age = float(rng.integers(appearance.MIN_AGE, appearance.MAX_AGE, endpoint=True))
    gender = int(rng.integers(len(appearance.GENDERS)))
    age_unknown, gender_unknown = rng.random(2) < config.unknown_fraction
    cues = appearance.sample_cues(rng, age, gender)
    nuisances = appearance.sample_nuisances(rng)
    image = drawing.draw_face(cues, nuisances, config.image_size)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, nuisances.jpeg_quality])
    name = f'{split}_{index:06d}'
    if config.age_noise:  # From draws of its own, so that faces stay as they are.
        error = np.random.default_rng([config.seed, _SPLIT_NUMBERS[split], index, 1]).normal()
        age = max(age + config.age_noise * error, 0.0)
    return {
        'image': io.BytesIO(jpeg.tobytes()),
        'age': np.float32(np.nan if age_unknown else age),
        'gender': -1 if gender_unknown else gender,
        'id': name,
        'group': name,
    }


class Builder(tfds.core.GeneratorBasedBuilder):
    """Faces drawn from (seed, split, index)."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}  # noqa: RUF012, TFDS reads it from the class
    DRAWN = True  # Alike without being the same: no photographs are looked for in it.
    BUILDER_CONFIGS = [  # noqa: RUF012
        SyntheticFacesConfig(name='default', description='The quickstart trains on it.'),
        SyntheticFacesConfig(
            name='tiny',
            description='For tests: sizes that no batch divides, labels partly unknown.',
            image_size=48,
            num_train=67,
            num_validation=23,
            num_test=41,
            unknown_fraction=0.1,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.image_size
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(size, size, 3), encoding_format='jpeg'),
                    'age': tfds.features.Scalar(np.float32),
                    'gender': tfds.features.ClassLabel(names=list(appearance.GENDERS)),
                    'id': tfds.features.Text(),
                    'group': tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in _SPLIT_NUMBERS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for index in range(getattr(self.builder_config, f'num_{split}')):
            example = make_example(self.builder_config, split, index)
            yield example['id'], example
