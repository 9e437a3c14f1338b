"""A dataset of one's own, with a format that no builder reads: one class, one line."""

import io
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from hybrid import datasets
from hybrid.modes.train import train_and_evaluate


class Shades(tfds.core.GeneratorBasedBuilder):
    """Grey squares: the older, the darker; women are on light ground."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            'image': tfds.features.Image(shape=(40, 40, 3), encoding_format='png'),
            'age': tfds.features.Scalar(np.float32),
            'gender': tfds.features.ClassLabel(names=['male', 'female']),
            'id': tfds.features.Text(),
            'group': tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        counts = {'train': 64, 'validation': 16, 'test': 24}
        return {split: self._generate_examples(split, n) for split, n in counts.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[str, dict]]:
        for k in range(count):
            age, gender, name = float(1 + k % 80), k % 2, f'{split}_{k}'
            image = np.full((40, 40, 3), 250 - 2 * int(age), np.uint8)
            image[:8] = 255 * gender
            # TFDS would need TensorFlow to encode an array.
            file = io.BytesIO(cv2.imencode('.png', image)[1].tobytes())
            yield name, {'image': file, 'age': age, 'gender': gender, 'id': name, 'group': name}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(datasets, '_REGISTERED', {})
    datasets.register(Shades)


@pytest.mark.long
def test_a_registered_dataset_is_trained_on_and_evaluated(registered, tiny_config, tmp_path):
    tiny_config.data.dataset, tiny_config.data.data_dir = 'shades', str(tmp_path / 'data')
    train_and_evaluate(tiny_config, tmp_path / 'run')
    record = json.loads((tmp_path / 'run/dataset.json').read_text())
    assert record['name'] == 'shades/1.0.0'
    assert {name: split['num_examples'] for name, split in record['splits'].items()} == {
        **{'train': 64, 'validation': 16, 'test': 24}
    }
    assert record['constant_age'] == 32.5
    scores = json.loads((tmp_path / 'run/evaluation/test/metrics.json').read_text())
    assert (scores['num_examples'], scores['gender/num_examples']) == (24, 24)
    assert scores['constant/age/mae'] == pytest.approx(20.0)


def test_a_name_is_taken_once(registered):
    assert 'shades' in datasets.names()
    with pytest.raises(ValueError, match="a dataset 'shades' already"):
        datasets.register(Shades)
    with pytest.raises(ValueError, match="shades has no config 'small'"):
        datasets.create_builder('shades/small')
    with pytest.raises(ValueError, match="has no parameter 'size'"):
        datasets.create_builder('shades', parameters={'size': 3})
