import json

import numpy as np
import pytest

from hybrid.scores import intervals
from hybrid.scores.intervals import Intervals


def test_the_quantile_counts_the_new_example_too():
    errors = np.arange(1, 10, dtype=np.float32)  # Nine: with the new one ten.
    assert intervals.quantile(errors, 0.5) == 5
    assert intervals.quantile(errors, 0.51) == 6
    assert intervals.quantile(errors, 0.9) == 9
    assert intervals.quantile(errors, 0.91) == np.inf
    assert intervals.quantile(errors[:0], 0.5) == np.inf


def test_intervals_are_those_of_the_band_of_the_predicted_age():
    found = Intervals((30.0,), (np.array([1, 2, 3, 4], np.float32), np.array([10.0, 20.0])))
    predicted = np.array([2, 29.9, 30, np.nan], np.float32)
    low, high = found(predicted, None, 0.6)  # The third of four, the second of two.
    np.testing.assert_allclose(low, [0, 26.9, 10, np.nan], rtol=1e-6)
    np.testing.assert_allclose(high, [5, 32.9, 50, np.nan], rtol=1e-6)
    low, high = found(predicted[:3], None, 0.7)
    assert high.tolist() == [6, np.float32(33.9), 125]  # It would take the third of two.
    assert low[2] == 0


def test_scaled_intervals_are_wide_where_the_model_is_unsure():
    found = Intervals((), (np.array([1, 2, 3], np.float32),), scaled=True)
    low, high = found(np.array([40, 40, 40]), np.array([2, 4, 0]), 0.5)
    np.testing.assert_allclose(high - 40, [4, 8, 0.2], rtol=1e-5)
    np.testing.assert_allclose(40 - low, [4, 8, 0.2], rtol=1e-5)


def test_bands_with_few_examples_are_joined():
    def ages(*counts):
        return np.repeat([1, 5, 15, 25, 35, 45, 55, 65, 75], counts).astype(float)

    assert intervals.joined_edges(ages(100, 0, 0, 100, 50, 50, 10, 0, 0)) == (3, 30)
    assert intervals.joined_edges(ages(100, 0, 0, 100, 50, 50, 100, 0, 0)) == (3, 30, 50)
    assert intervals.joined_edges(ages(99, 1, 0, 0, 0, 0, 0, 0, 100)) == (10,)
    assert intervals.joined_edges(ages(99, 0, 0, 0, 0, 0, 0, 0, 0)) == ()


@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize('level', [0.8, 0.95])
def test_coverage_is_what_was_promised_in_every_band_of_the_predicted_age(scaled, level):
    """Whatever the model is: its errors grow with age, and it is biased."""
    rng = np.random.default_rng(0)

    def draw(count):
        predicted = rng.uniform(0, 90, count)
        width = 1 + predicted / 10
        age = np.maximum(predicted + 2 + width * rng.laplace(size=count), 0)
        return age, predicted, width if scaled else None

    covered = np.zeros(3)
    for _ in range(20):
        found = intervals.fit(*draw(2000))
        assert found is not None
        assert found.scaled == scaled
        age, predicted, width = draw(2000)
        low, high = found(predicted, width, level)
        inside = (low <= age) & (age <= high)
        young = predicted < 10
        covered += inside.mean(), inside[young].mean(), inside[~young].mean()
    np.testing.assert_allclose(covered / 20, level, atol=0.01)


def test_few_known_ages_give_no_intervals():
    age = np.where(np.arange(200) < 99, 30.0, np.nan)
    assert intervals.fit(age, np.full(200, 31.0)) is None
    age[99] = 40
    found = intervals.fit(age, np.full(200, 31.0))
    assert found is not None
    assert found.edges == ()
    assert found.errors[0].tolist() == [1] * 99 + [9]


def test_intervals_go_through_json_exactly():
    rng = np.random.default_rng(1)
    predicted = rng.uniform(0, 90, 500).astype(np.float32)
    found = intervals.fit(rng.uniform(0, 90, 500), predicted)
    assert found is not None
    again = Intervals.from_json(json.loads(json.dumps(found.to_json())))
    assert again.edges == found.edges
    for one, other in zip(again.errors, found.errors, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match='2 edges between 2 bands'):
        Intervals.from_json({'edges': [1, 2], 'errors': [[], []], 'scaled': False})
