import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.scores import combination, distributions
from hybrid.scores.combination import Weights

YEAR = np.arange(101)


def at(**shares):
    p = np.zeros(101)
    for year, share in shares.items():
        p[int(year.removeprefix('y'))] = share
    return p


def test_all_estimates_of_one_year_are_that_year():
    p = np.eye(101)
    np.testing.assert_allclose(distributions.quantile(p, 0.5), YEAR, atol=1e-12)
    for kind in distributions.ESTIMATES:
        got = distributions.estimate(p, kind, p @ YEAR)
        np.testing.assert_allclose(got, YEAR, atol=1e-12)


@pytest.mark.parametrize(
    ('p', 'median', 'mode'),
    [
        # A fifth of the year 31 lies below the median: 30.5 + 0.2.
        (at(y30=0.4, y31=0.5, y60=0.1), 30.7, 31),
        (at(y0=0.8, y1=0.2), -0.5 + 0.5 / 0.8, 0),
        (at(y20=0.5, y40=0.5), 20.5, 20),  # The lowest of all from 20.5 to 39.5.
        (at(y99=0.2, y100=0.8), 100.5 - 0.5 / 0.8, 100),
    ],
)
def test_median_and_mode_by_hand(p, median, mode):
    for array in (np.asarray(p), jnp.asarray(p, jnp.float32)):
        mean = array @ YEAR
        got = float(distributions.estimate(array, 'median', mean))
        assert got == pytest.approx(median, abs=1e-5)
        assert float(distributions.estimate(array, 'mode', mean)) == mode
        assert distributions.estimate(array, 'mean', mean) is mean


def test_quantiles_rise_without_a_jump_and_need_not_add_up_to_1():
    p = np.random.default_rng(0).dirichlet(np.full(101, 0.3), 5)
    levels = np.linspace(0, 1, 501)
    found = np.stack([distributions.quantile(0.7 * p, level) for level in levels])
    np.testing.assert_allclose(found[[0, -1]], [[-0.5] * 5, [100.5] * 5], atol=1e-9)
    assert np.all(np.diff(found, axis=0) >= 0)
    ends = np.concatenate([[0], np.cumsum(p[0])])
    expected = np.interp(levels, ends, np.arange(102) - 0.5)
    np.testing.assert_allclose(found[1:-1, 0], expected[1:-1], atol=1e-6)


def test_what_is_no_number_stays_so():
    p = np.full((1, 101), np.nan)
    for kind in distributions.ESTIMATES:
        assert np.isnan(distributions.estimate(p, kind, p @ YEAR)).all()


def test_members_are_mixed_before_an_estimate_is_taken():
    years = np.stack([at(y10=0.6, y90=0.4), at(y20=1.0), at(y20=0.2, y50=0.8)])
    probabilities = np.stack([years, years[[1, 1, 1]]])  # [N, K, years]
    weights = Weights(np.array([0.5, 0.2, 0.3]), np.ones(1))

    def combine(kind, probabilities=probabilities):
        ages = np.stack([distributions.estimate(p, kind, p @ YEAR) for p in probabilities])
        means = probabilities @ YEAR
        widths = np.sqrt(probabilities @ YEAR**2 - means**2)
        known = probabilities.swapaxes(1, 2)
        return combination.combine(ages, np.full((2, 1), 0.5), weights, widths, known, kind)

    mixture = np.einsum('nky,k->ny', probabilities, weights.age)
    columns = combine('median')
    # Of the mixture 0.3 are 10, and the half is at 0.2 of the 0.26 that are 20.
    np.testing.assert_allclose(columns['predicted_age'], [19.5 + 0.2 / 0.26, 20], rtol=1e-6)
    np.testing.assert_allclose(combine('mode')['predicted_age'], [10, 20])
    np.testing.assert_allclose(combine('mean')['predicted_age'], mixture @ YEAR, rtol=1e-6)
    deviation = np.sqrt(mixture @ YEAR**2 - (mixture @ YEAR) ** 2)
    for kind in distributions.ESTIMATES:
        np.testing.assert_allclose(combine(kind)['age_width'], deviation, rtol=1e-5, atol=1e-6)
    # Without distributions it is the mean of what members predict.
    ages = np.array([[10.0, 20.0, 50.0]])
    alone = combination.combine(ages, np.full((1, 1), 0.5), weights, age_estimate='median')
    assert alone['predicted_age'].tolist() == [24]


def test_a_member_without_ages_has_no_part_in_the_mixture():
    ages = np.array([[20.0, np.nan, 40.0]])
    probabilities = np.stack([at(y20=1.0), np.full(101, np.nan), at(y40=1.0)], -1)[None]
    predicted = {'predicted_age': ages, 'female_probability': np.full((1, 3), 0.5)}
    predicted['age_probabilities'] = probabilities
    columns = combination.combine_known(predicted, age_estimate='median')
    assert columns['predicted_age'].tolist() == [20.5]
    assert columns['age_probabilities'].sum() == 1


def test_the_ranked_probability_score_of_one_year_is_the_absolute_error():
    p = np.eye(101)[[30, 0, 100, 30]]
    got = distributions.crps(p, np.array([33.5, 2, 104, np.nan]))
    np.testing.assert_allclose(got, [3.5, 2, 4, np.nan])


def test_the_ranked_probability_score_is_mean_distance_less_half_of_that_of_two_draws():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(101), 3)
    age = np.array([10.25, 50, 99.5])
    distance = (p * np.abs(YEAR - age[:, None])).sum(axis=1)
    of_two = np.einsum('ni,nj,ij->n', p, p, np.abs(YEAR[:, None] - YEAR))
    np.testing.assert_allclose(distributions.crps(p, age), distance - of_two / 2, rtol=1e-5)
