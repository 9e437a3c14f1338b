import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import default_config
from hybrid.training import balance
from hybrid.training.losses import masked_mean

NAN = float('nan')


def labels(ages):
    return {'age': np.array(ages, np.float32)}


def smoothed(counts, width):
    """Frequencies about each year by hand: a mean over all years with Gaussian weights."""
    near = np.exp(-(np.subtract.outer(np.arange(101), np.arange(101)) ** 2) / (2 * width**2))
    return near @ counts / near.sum(axis=1)


@pytest.mark.parametrize(('power', 'ratio'), [(1.0, 3.0), (0.5, np.sqrt(3))])
def test_inverse_weights_by_hand(power, ratio):
    found = labels([20, 20, 20, 40, NAN])
    weights = balance.year_weights(found, 0.0, power)
    assert weights[40] / weights[20] == pytest.approx(ratio, rel=1e-6)
    assert (3 * weights[20] + weights[40]) / 4 == pytest.approx(1, rel=1e-6)
    assert np.flatnonzero(weights).tolist() == [20, 40]


def test_lds_weights_by_hand():
    ages = np.repeat([20, 21, 40, 100, 110], [6, 2, 1, 3, 1])  # Older than the last year: that.
    counts = np.bincount(np.minimum(ages, 100), minlength=101)
    weights = balance.year_weights(labels(ages), 2.0, 1.0)
    expected = np.where(counts > 0, 1 / smoothed(counts, 2.0), 0)
    expected *= counts.sum() / (counts @ expected)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    # 21 is less rare than 40 for its neighbours, and so weighs less than twice as much as 20 does.
    assert 1 < weights[21] / weights[20] < 2 < weights[40] / weights[20]


def test_ages_between_years_and_ranges_weigh_as_their_years_do():
    exact = np.array([20, 20, 21, NAN, NAN, NAN], np.float32)
    low = np.array([20, 20, 21, 20, 99, NAN], np.float32)
    high = np.array([20, 20, 21, 21, np.inf, NAN], np.float32)
    found = {'age': exact, 'age_min': low, 'age_max': high}
    weights = balance.year_weights(found, 0.0, 1.0)
    # Year 20 has two of its own and half of the range 20-21, the years 99 and 100 half of 99+.
    np.testing.assert_allclose(weights[[20, 21, 99]] * [2.5, 1.5, 0.5], weights[100] / 2, rtol=1e-6)
    each = np.asarray(balance.example_weights(weights.tolist(), found))
    assert each[:5].mean() == pytest.approx(1, rel=1e-6)
    assert each[5] == 1
    np.testing.assert_allclose(each[3], weights[[20, 21]].mean(), rtol=1e-6)
    np.testing.assert_allclose(each[4], weights[100], rtol=1e-6)
    between = balance.example_weights(weights.tolist(), labels([20.25]))
    np.testing.assert_allclose(between, 0.75 * weights[20] + 0.25 * weights[21], rtol=1e-6)


def test_weighted_losses_make_ages_count_alike():
    ages = np.repeat([20, 40], [9, 1]).astype(np.float32)
    weights = balance.year_weights({'age': ages}, 0.0, 1.0).tolist()
    each = jax.jit(lambda batch: balance.example_weights(weights, batch))({'age': ages})
    losses = jnp.where(ages == 20, 1.0, 5.0)
    assert float(masked_mean(losses, each)) == pytest.approx((1 + 5) / 2, rel=1e-6)


def test_a_run_goes_on_with_the_weights_that_it_began_with():
    data = default_config.get_config().data
    found = labels([20, 20, 40])
    assert balance.describe(found, data, {}) == {}
    data.balance = 'lds'
    assert balance.describe(labels([NAN]), data, {}) == {}
    record = balance.describe(found, data, {})
    settings = {'balance': 'lds', 'balance_power': 1.0, 'balance_width': 2.0}
    assert {k: v for k, v in record['balance'].items() if k != 'weights'} == settings
    expected = balance.year_weights(found, 2.0, 1.0)
    assert np.array_equal(np.array(record['balance']['weights'], np.float32), expected)
    # Whatever computes them now.
    record['balance']['weights'][20] = 0.123
    assert balance.describe(found, data, record) == record
    # By other settings, which --overwrite_config allows, they are others.
    data.balance_power = 0.5
    assert balance.describe(found, data, record)['balance']['weights'][20] != 0.123
