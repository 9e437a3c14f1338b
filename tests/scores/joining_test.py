import numpy as np
import pytest

from hybrid.scores import combination, distributions, joining

NAN = float('nan')
LABELS = {
    'id': np.array(['a', 'b', 'c']),
    'age': np.array([20, NAN, 40], np.float32),
    'gender': np.array([0, 1, -1]),
    'ethnicity': np.array([1, -1, 0]),
    'group': np.array(['p', 'q', 'r']),
}
CONSTANT = {'constant_age': 31.5, 'constant_gender': 1, 'name': 'x'}
KINDS = {'ethnicity': ['x', 'y']}


def test_predictions_of_one_model():
    predicted = {
        'predicted_age': np.array([21, 22, 23], np.float32),
        'female_probability': np.array([0.1, 0.2, 0.3], np.float32),
        'age_width': np.array([3, 4, 5], np.float32),
        'age_loss': np.array([1, NAN, 1], np.float32),
    }
    joined = joining.join(predicted, LABELS, CONSTANT, KINDS)
    assert list(joined) == [
        *('id', 'age', 'gender', 'predicted_age', 'female_probability', 'age_width'),
        *('constant_age', 'constant_gender', 'ethnicity'),
    ]
    assert joined.subgroups == ('ethnicity',)
    assert joined['ethnicity'].tolist() == ['y', '', 'x']
    assert joined['age_width'].tolist() == [3, 4, 5]
    assert (joined['constant_age'].tolist(), joined['constant_gender'].tolist()) == (
        [31.5] * 3,
        [1] * 3,
    )
    unknown = {'constant_age': None, 'constant_gender': -1}
    assert np.isnan(joining.join(predicted, LABELS, unknown, {})['constant_age']).all()


def test_predictions_of_members_and_what_they_come_to():
    predicted = {
        'predicted_age': np.array([[20, 30], [1, 2], [5, 5]], np.float32),
        'female_probability': np.array([[0.2, 0.9], [0, 0], [1, 1]], np.float32),
        'age_loss': np.zeros((3, 2), np.float32),
    }
    leak = np.array([False, True, False])
    weights = combination.Weights(np.array([0.25, 0.75]), np.array([1.0, 0.0]))
    joined = joining.join(predicted, LABELS | {'leak': leak}, CONSTANT, KINDS, [0, 3], weights)
    assert joined.members == [0, 3]
    assert joined['predicted_age'].tolist() == [27.5, 1.75, 5]
    assert joined['female_probability'] == pytest.approx([0.2, 0, 1])
    assert joined['gender_agreement'].tolist() == [0.5, 1, 1]
    assert joined['member_3_age'].tolist() == [30, 2, 5]
    assert joined['member_0_female_probability'].tolist() == [np.float32(0.2), 0, 1]
    assert joined['leak'].tolist() == leak.tolist()
    assert list(joined)[-2:] == ['ethnicity', 'leak']


def test_members_with_distributions_are_mixed_before_the_estimate():
    probabilities = np.zeros((3, 101, 2), np.float32)
    probabilities[:, 10, 0], probabilities[:, 90, 0], probabilities[:, 30, 1] = 0.6, 0.4, 1
    predicted = {
        'predicted_age': np.array([[10.3, 30]] * 3, np.float32),
        'female_probability': np.full((3, 2), 0.5, np.float32),
        'age_probabilities': probabilities,
    }
    for estimate, age in (('mean', 20.15), ('median', 29.9), ('mode', 30)):
        joined = joining.join(predicted, LABELS, CONSTANT, {}, [0, 1], age_estimate=estimate)
        np.testing.assert_allclose(joined['predicted_age'], age, rtol=1e-5)
        assert 'age_probabilities' not in joined
        mixture = probabilities.mean(axis=-1)
        expected = distributions.crps(mixture, LABELS['age'])
        np.testing.assert_allclose(joined['age_crps'], expected, rtol=1e-5)
