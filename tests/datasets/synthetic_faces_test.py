"""Drawn faces: counts, determinism, labels that can be learnt, and no shortcut past them."""

import hashlib
import sys

import cv2
import numpy as np
import pytest

from hybrid.datasets.synthetic_faces import Builder
from hybrid.datasets.synthetic_faces.appearance import sample_cues, sample_nuisances
from hybrid.datasets.synthetic_faces.synthetic_faces_dataset_builder import (
    SyntheticFacesConfig,
    make_example,
)

MALE, FEMALE = 0, 1


def decode(example: dict) -> np.ndarray:
    jpeg = np.frombuffer(example['image'].getvalue(), np.uint8)
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    builder = Builder(data_dir=tmp_path_factory.mktemp('data'), config='tiny')
    builder.download_and_prepare(file_format='array_record')
    assert builder.info.features['age'].np_dtype == np.float32
    assert builder.info.features['gender'].names == ['male', 'female']
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


@pytest.fixture(scope='module')
def faces():
    """1,200 faces of 48 px: pixels [N, 48, 48, 3] in 0..1, age [N] years, gender [N]."""
    config = SyntheticFacesConfig(name='test', image_size=48, seed=3)
    examples = [make_example(config, 'train', index) for index in range(1200)]
    images = np.stack([decode(example) for example in examples]) / 255
    ages = np.array([example['age'] for example in examples])
    genders = np.array([example['gender'] for example in examples])
    return images, ages, genders


def test_tiny_has_its_counts_shapes_and_labels(tiny):
    assert {split: len(rows) for split, rows in tiny.items()} == {
        'train': 67,
        'validation': 23,
        'test': 41,
    }
    rows = [row for split in tiny.values() for row in split]
    for row in rows:
        assert row['image'].shape == (48, 48, 3)
        assert row['image'].dtype == np.uint8
        assert np.isnan(row['age']) or 1 <= row['age'] <= 90
        assert row['gender'] in (-1, MALE, FEMALE)
        assert row['group'] == row['id']
    for split, split_rows in tiny.items():
        expected = {f'{split}_{index:06d}'.encode() for index in range(len(split_rows))}
        assert {row['id'] for row in split_rows} == expected
    assert len({hashlib.sha256(row['image'].tobytes()).digest() for row in rows}) == len(rows)
    assert 'tensorflow' not in sys.modules


def test_tiny_has_some_unknown_labels_of_each_kind_in_every_split(tiny):
    for rows in tiny.values():
        unknown_age = np.isnan([row['age'] for row in rows])
        unknown_gender = np.array([row['gender'] for row in rows]) == -1
        assert 0 < unknown_age.sum() < len(rows) / 3
        assert 0 < unknown_gender.sum() < len(rows) / 3
        assert (unknown_age != unknown_gender).any()


def test_default_config_is_what_the_quickstart_expects(tmp_path):
    config = Builder(data_dir=tmp_path).builder_config
    assert config.name == 'default'
    sizes = (config.num_train, config.num_validation, config.num_test, config.image_size)
    assert sizes == (5000, 500, 1000, 96)
    assert config.unknown_fraction == 0


def test_noise_of_ages_has_its_deviation_and_leaves_faces_as_they_are():
    config = SyntheticFacesConfig(name='a', image_size=16)
    noisy = SyntheticFacesConfig(name='b', image_size=16, age_noise=5.0)
    pairs = [[make_example(one, 'test', k) for one in (config, noisy)] for k in range(300)]
    assert all(one['image'].getvalue() == other['image'].getvalue() for one, other in pairs)
    ages = np.array([[one['age'], other['age']] for one, other in pairs])
    errors = (ages[:, 1] - ages[:, 0])[ages[:, 0] > 15]
    assert errors.std() == pytest.approx(5, rel=0.1)
    assert abs(errors.mean()) < 0.75
    assert ages.min() == 0


def test_examples_depend_on_seed_split_and_index_only():
    config = SyntheticFacesConfig(name='a', image_size=32)
    smaller = SyntheticFacesConfig(name='b', image_size=32, num_train=7, unknown_fraction=1.0)
    for index in (0, 5):
        example, same = make_example(config, 'train', index), make_example(smaller, 'train', index)
        assert example['image'].getvalue() == same['image'].getvalue()
        assert np.isnan(same['age'])
        assert same['gender'] == -1
    other_seed = SyntheticFacesConfig(name='c', image_size=32, seed=1)
    pictures = [
        make_example(*arguments)['image'].getvalue()
        for arguments in (
            (config, 'train', 0),
            (config, 'train', 1),
            (config, 'validation', 0),
            (config, 'test', 0),
            (other_seed, 'train', 0),
        )
    ]
    assert len(set(pictures)) == 5


def test_first_labels_are_pinned():
    config = SyntheticFacesConfig(name='a')
    labels = [
        (float(example['age']), example['gender'])
        for split in ('train', 'test')
        for example in (make_example(config, split, index) for index in range(3))
    ]
    assert labels == [(77, 1), (81, 0), (20, 1), (89, 0), (88, 1), (15, 0)]


@pytest.mark.parametrize(
    'parameters',
    [
        {'image_size': 8},
        {'num_test': 0},
        {'seed': -1},
        {'unknown_fraction': 1.5},
        {'age_noise': -2},
    ],
)
def test_impossible_parameters_are_named(parameters):
    ((name, value),) = parameters.items()
    with pytest.raises(ValueError, match=f'synthetic_faces: {name}={value}'):
        SyntheticFacesConfig(name='a', **parameters)


def test_labels_are_spread_out_and_independent(faces):
    _, ages, genders = faces
    assert set(genders) == {MALE, FEMALE}
    assert abs(genders.mean() - 0.5) < 0.05
    # Uniform over 1..90: the mean distance from the median is 22.5 years.
    assert abs(np.abs(ages - np.median(ages)).mean() - 22.5) < 1.0
    assert (ages.min(), ages.max()) == (1, 90)
    assert abs(np.corrcoef(ages, genders)[0, 1]) < 0.07


def test_equal_seeds_give_cues_that_grow_with_age():
    young, old = (sample_cues(np.random.default_rng(11), age, MALE) for age in (25, 85))
    for name in ('hair_grey', 'hairline_recession', 'forehead_lines', 'crows_feet', 'eye_bags'):
        assert getattr(old, name) > getattr(young, name)
    assert sample_cues(np.random.default_rng(11), 25, MALE) == young
    boys = [sample_cues(np.random.default_rng(seed), 8, MALE) for seed in range(50)]
    women = [sample_cues(np.random.default_rng(seed), 40, FEMALE) for seed in range(50)]
    assert all(cues.beard == cues.moustache == 0 for cues in boys + women)


def test_nuisances_stay_in_their_ranges():
    drawn = [sample_nuisances(np.random.default_rng(seed)) for seed in range(300)]
    rotation = np.rad2deg([nuisances.rotation for nuisances in drawn])
    assert -15 <= rotation.min() < -13
    assert 13 < rotation.max() <= 15
    colours = np.array([[n.skin, n.hair, n.iris, n.clothes, n.accessory] for n in drawn])
    assert colours.min() >= 0
    assert colours.max() <= 255
    assert 0.15 < np.mean([nuisances.glasses for nuisances in drawn]) < 0.35


def held_out_predictions(features: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression on the first 800 rows, predictions for the rest."""
    mean, scale = features[:800].mean(0), features[:800].std(0) + 1e-6
    x = np.nan_to_num((features - mean) / scale)
    offset = target[:800].mean()
    gram = x[:800] @ x[:800].T + penalty * np.eye(800)
    return x[800:] @ (x[:800].T @ np.linalg.solve(gram, target[:800] - offset)) + offset


def explained(target: np.ndarray, predicted: np.ndarray) -> float:
    return 1 - np.mean((target - predicted) ** 2) / np.var(target)


def test_mean_colour_gives_no_label_away(faces):
    images, ages, genders = faces
    mean_colour = images.mean((1, 2))
    features = np.concatenate([mean_colour, mean_colour**2, images.std((1, 2))], 1)
    for target in (ages, genders.astype(float)):
        assert explained(target[800:], held_out_predictions(features, target, 1.0)) < 0.15


def test_no_single_pixel_gives_a_label_away(faces):
    images, ages, genders = faces
    pixels = images.reshape(len(images), -1)
    pixels = (pixels - pixels.mean(0)) / pixels.std(0)
    for target in (ages, genders):
        centred = (target - target.mean()) / target.std()
        correlation = centred @ pixels / len(pixels)
        assert (correlation**2).max() < 0.3  # one of 6,912, the grey of the hair


def edge_histograms(images: np.ndarray) -> np.ndarray:
    """Histograms of gradient orientation, 8 bins in 8 x 8 cells; [N, 512]."""
    grey = images.mean(-1)
    dy, dx = np.gradient(grey, axis=(1, 2))
    size = np.hypot(dx, dy)
    angle = np.floor((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
    votes = size[..., None] * np.eye(8)[angle]
    cells = votes.reshape(len(images), 8, 6, 8, 6, 8).mean((2, 4))
    cells /= np.linalg.norm(cells, axis=-1, keepdims=True).mean((1, 2), keepdims=True) + 1e-3
    return cells.reshape(len(images), -1)


def test_labels_are_recoverable_from_edges(faces):
    images, ages, genders = faces
    features = edge_histograms(images)
    constant = np.abs(ages[800:] - np.median(ages[:800])).mean()
    mae = np.abs(ages[800:] - held_out_predictions(features, ages, 300.0)).mean()
    accuracy = np.mean((held_out_predictions(features, genders, 300.0) > 0.5) == genders[800:])
    assert mae < 0.65 * constant
    assert accuracy > 0.85
