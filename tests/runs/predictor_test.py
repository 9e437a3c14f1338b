from typing import Any

import numpy as np
import pytest

from hybrid import devices
from hybrid.runs import face_rows, trained
from hybrid.runs.predictor import Predictor, batch_sizes
from tests import random_workdir
from tests.random_workdir import face


def test_sizes_of_batches(monkeypatch):
    # Tests run on four devices.
    assert batch_sizes(256) == [4, 32, 128]
    assert batch_sizes(16) == [4, 16]
    monkeypatch.setattr(devices, 'on_cpu', lambda: False)
    assert batch_sizes(256) == [4, 32, 128, 256]
    with pytest.raises(ValueError, match=r'config\.evaluate\.batch_size=6 cannot be divided'):
        batch_sizes(6)


def test_a_face_is_predicted_alike_in_batches_of_any_size(tiny_config, tmp_path):
    run = random_workdir.create(tiny_config, tmp_path)
    model, _ = trained.restore(tiny_config, run, 'best', to_evaluate=True)
    predictor = Predictor([model])
    assert (predictor.most, predictor.face_sizes) == (16, [36])
    assert predictor.prepare(1) == {'female_probability': (), 'predicted_age': ()}
    images = np.stack([np.asarray(face(k).resize((36, 36))) for k in range(13)])
    together = predictor([images])
    for count in (1, 3, 4, 5):
        few = predictor([images[:count]])
        assert {len(column) for column in few.values()} == {count}
        for name, column in few.items():
            np.testing.assert_allclose(column, together[name][:count], rtol=1e-5, atol=1e-5)


def test_a_frozen_member_does_not_count(tiny_config, tmp_path):
    class Fixed:
        """Says the same of every face; member 1 was frozen."""

        members = (0, 1, 2)
        is_ensemble = True

        def predict_step(self, variables, batch):
            index = np.asarray(batch['index'])
            of_members = {
                'predicted_age': [10.0, np.nan, 30.0],
                'female_probability': [0.9, np.nan, 0.4],
            }
            rows = {k: np.broadcast_to(v, (*index.shape, 3)) for k, v in of_members.items()}
            return {**rows, 'index': index}

    fixed: Any = Fixed()
    model = trained.Trained(tmp_path, tiny_config, fixed, {}, 'best', 1, frozen=(1,))
    columns = Predictor([model])([np.zeros((16, 36, 36, 3), np.uint8)])
    first = {name: column[0] for name, column in columns.items()}
    assert first == {
        'predicted_age': 20,
        'female_probability': np.float32(0.65),
        'age_std': 10,
        'gender_agreement': 0.5,
    }


def told(age, probability, predicts, config, folder):
    """A model that says the same of every face, and whose training had labels of some kinds."""

    class Fixed:
        members = (0,)
        is_ensemble = False

        def predict_step(self, variables, batch):
            index = np.asarray(batch['index'])
            rows = {'predicted_age': age, 'age_width': 2.0, 'female_probability': probability}
            return {k: np.full(len(index), v) for k, v in rows.items()} | {'index': index}

    fixed: Any = Fixed()
    return trained.Trained(folder, config, fixed, {}, 'best', 1, predicts=predicts)


def test_what_the_training_had_no_labels_of_is_not_predicted(tiny_config, tmp_path):
    faces = np.zeros((2, 36, 36, 3), np.uint8)
    of_age = told(20.0, 0.9, ('age',), tiny_config, tmp_path)
    of_gender = told(33.0, 0.2, ('gender',), tiny_config, tmp_path)
    both = told(30.0, 0.6, ('age', 'gender'), tiny_config, tmp_path)
    assert Predictor([of_gender]).prepare(2) == {'female_probability': ()}
    assert Predictor([of_age])([faces]).keys() == {'predicted_age', 'age_width'}
    # Together they are a whole model.
    columns = Predictor([of_age, of_gender])([faces, faces])
    np.testing.assert_array_equal(columns['predicted_age'], [20, 20])
    np.testing.assert_allclose(columns['female_probability'], [0.2, 0.2], rtol=1e-6)
    columns = Predictor([of_age, of_gender, both])([faces] * 3)
    np.testing.assert_array_equal(columns['predicted_age'], [25, 25])
    np.testing.assert_allclose(columns['age_width'], np.sqrt([29, 29]), rtol=1e-6)
    np.testing.assert_allclose(columns['female_probability'], [0.4, 0.4], rtol=1e-6)
    columns = Predictor([of_age, of_age])([faces, faces])
    assert columns.keys() == {'predicted_age', 'age_std', 'age_width'}


def test_members_that_know_distributions_are_mixed_before_the_estimate(tiny_config, tmp_path):
    def model(age, probabilities):
        class Fixed:
            members = (0,)
            is_ensemble = False

            def predict_step(self, variables, batch):
                index = np.asarray(batch['index'])
                of_one = {'predicted_age': age, 'female_probability': 0.5}
                if probabilities is not None:
                    of_one['age_probabilities'] = probabilities
                rows = {k: np.broadcast_to(v, index.shape + np.shape(v)) for k, v in of_one.items()}
                return {**rows, 'index': index}

        fixed: Any = Fixed()
        return trained.Trained(tmp_path, tiny_config, fixed, {}, 'best', 1)

    faces = np.zeros((2, 36, 36, 3), np.uint8)
    tiny_config.evaluate.age_estimate = 'median'
    low, high = np.zeros(101), np.zeros(101)
    low[[10, 90]], high[30] = (0.6, 0.4), 1.0
    columns = Predictor([model(10.3, low), model(30.0, high)])([faces] * 2)
    # Of the mixture 0.3 are 10, and 0.2 of the 0.5 that are 30 are missing to the half.
    np.testing.assert_allclose(columns['predicted_age'], 29.5 + 0.2 / 0.5, rtol=1e-6)
    np.testing.assert_allclose(columns['age_probabilities'][0, [10, 30, 90]], [0.3, 0.5, 0.2])
    # One of them has no distribution: the mean of what each predicts.
    columns = Predictor([model(10.3, low), model(30.0, None)])([faces] * 2)
    np.testing.assert_allclose(columns['predicted_age'], 20.15, rtol=1e-6)
    assert 'age_probabilities' not in columns


def test_rows_and_arrays_of_a_model_of_genders(tiny_config, tmp_path):
    predictor = Predictor([told(33.0, 0.25, ('gender',), tiny_config, tmp_path)])
    predicted = predictor.prepare(1)
    row = {'path': 'a.png', 'face': 0, 'image': 0, 'width': 36, 'height': 36}
    found = [(row, (np.zeros((36, 36, 3), np.uint8),))]
    rows = list(face_rows.predict_rows(found, predictor))
    assert rows[0]['gender'] == 'male'
    assert 'age' not in rows[0]
    assert 'error' not in rows[0]
    assert 'age' in face_rows.columns(predicted)
    assert 'age_width' not in face_rows.columns(predicted)
    arrays = face_rows.Predictions.from_rows(rows, predicted)
    assert np.isnan(arrays.age).all()
    assert list(arrays.gender) == ['male']
