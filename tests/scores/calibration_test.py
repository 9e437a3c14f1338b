import numpy as np
import pytest

from hybrid.scores import calibration, metrics
from hybrid.scores.rows import create


def test_a_temperature_divides_logits():
    probability = np.array([0.5, 0.8, 0.2, 1.0, 0.0, np.nan], np.float32)
    # Of 0.8 the odds are 4, and their root is 2.
    cooled = calibration.at_temperature(probability, 2)
    np.testing.assert_allclose(cooled[:3], [0.5, 2 / 3, 1 / 3], rtol=1e-6)
    assert 0.99 < cooled[3] < 1
    assert 0 < cooled[4] < 0.01
    assert np.isnan(cooled[5])
    np.testing.assert_array_equal(calibration.at_temperature(probability, 1), probability)


def test_the_likelier_gender_stays_the_likelier_one():
    just_above = np.nextafter(np.float32(0.5), np.float32(1))
    for temperature in (0.1, 3.0, 10.0):
        cooled = calibration.at_temperature(np.array([just_above, 0.5]), temperature)
        assert cooled[0] > 0.5
        assert cooled[1] == 0.5


def test_the_temperature_of_overconfident_probabilities_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    gender = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(int)
    overconfident = (1 / (1 + np.exp(-2.5 * logits))).astype(np.float32)
    found = calibration.fit_temperature(overconfident, gender)
    assert found == pytest.approx(2.5, rel=0.05)
    cooled = calibration.at_temperature(overconfident, found)
    assert calibration.calibration_error(overconfident, gender) > 0.05
    assert calibration.calibration_error(cooled, gender) < 0.01
    assert (
        calibration.scores(cooled, gender)['nll'][0]
        < (calibration.scores(overconfident, gender)['nll'][0])
    )


def test_too_little_to_fit_leaves_probabilities_as_they_are():
    probability = np.full(60, 0.7, np.float32)
    assert calibration.fit_temperature(probability, np.ones(60, int)) == 1
    assert calibration.fit_temperature(probability[:40], np.arange(40) % 2) == 1
    assert calibration.fit_temperature(probability, np.full(60, -1)) == 1
    # All right, so the colder the better: it stops somewhere.
    gender = np.arange(60) % 2
    right = np.where(gender == 1, 0.9, 0.1).astype(np.float32)
    assert calibration.fit_temperature(right, gender) == pytest.approx(0.1, rel=1e-3)


def test_scores_of_probabilities_by_hand():
    probability = np.array([0.9, 0.9, 0.9, 0.25], np.float32)
    gender = np.array([1, 1, 0, 0])
    found = {name: value for name, (value, _) in calibration.scores(probability, gender).items()}
    assert found['brier'] == pytest.approx((0.01 + 0.01 + 0.81 + 0.0625) / 4, rel=1e-5)
    surprise = -np.log([0.9, 0.9, 0.1, 0.75]).sum() / 4
    assert found['nll'] == pytest.approx(surprise, rel=1e-5)
    # Of the three in one bin two are females, though 0.9 is said; 0.25 is said of a male.
    ece = calibration.calibration_error(probability, gender)
    assert ece == pytest.approx((3 * abs(0.9 - 2 / 3) + 0.25) / 4, rel=1e-5)
    bins = {count: (said, true) for count, said, true in calibration.bins(probability, gender)}
    assert bins[3] == pytest.approx((0.9, 2 / 3))
    assert bins[1] == pytest.approx((0.25, 0))


def table(**columns):
    count = 4
    return create(
        {
            'id': list('abcd'),
            'age': [20, 30, 40, np.nan],
            'gender': [0, 1, 1, -1],
            'predicted_age': [21, 35, 41, 50],
            'female_probability': [0.4, 0.9, 0.3, 0.8],
            'constant_age': [30] * count,
            'constant_gender': [0] * count,
        }
        | columns
    )


def test_coverage_and_width_are_of_known_ages():
    rows = table(age_low=[20, 31, 30, 0], age_high=[22, 39, 52, 100])
    scores = metrics.compute_metrics(rows)
    assert scores['age/coverage'] == pytest.approx(2 / 3)  # The end itself is inside.
    assert scores['age/mean_interval_width'] == pytest.approx((2 + 8 + 22) / 3)
    assert scores['by_predicted_age/30-39/age/coverage'] == 0
    assert scores['by_predicted_age/40-49/age/num_examples'] == 1
    assert np.isnan(scores['by_predicted_age/50-59/age/coverage'])
    assert scores['by_gender/female/age/coverage'] == 0.5
    assert 'age/coverage' not in metrics.compute_metrics(table())


def test_who_is_unsure_is_left_out():
    scores = metrics.sure_scores(table(), 0.65)
    assert scores == {
        'gender/sure/num_examples': 2,
        'gender/sure/accuracy': 0.5,
        'gender/sure/share': pytest.approx(2 / 3),
    }
