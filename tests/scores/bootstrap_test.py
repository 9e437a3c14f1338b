import math

import numpy as np
import pytest

from hybrid.scores import bootstrap


def test_bootstrap_does_not_depend_on_its_chunks():
    # 3,000 examples take four chunks; the same draws in one piece.
    values = np.random.default_rng(0).normal(size=(2, 3000))
    index = np.random.default_rng(7).integers(0, 3000, (bootstrap.NUM_RESAMPLES, 3000))
    means = bootstrap.resampled_means(values, seed=7)
    np.testing.assert_allclose(means[1], values[1][index].mean(axis=1), atol=1e-12)


def test_paired_bootstrap_is_narrower_than_the_models_own_spread():
    rng = np.random.default_rng(0)
    hard = rng.exponential(5, 1000)  # What both models share.
    gain = rng.normal(0.3, 1, 1000)
    difference, low, high = bootstrap.paired_bootstrap(hard, hard - gain, seed=3)
    assert difference == pytest.approx(gain.mean())
    assert low < difference < high
    assert (high - low) / 2 == pytest.approx(1.96 * gain.std() / math.sqrt(1000), rel=0.1)
    assert bootstrap.paired_bootstrap(hard, hard - gain, seed=3) == (difference, low, high)
    assert bootstrap.paired_bootstrap(hard, hard) == (0, 0, 0)
    with pytest.raises(ValueError, match='one shape'):
        bootstrap.paired_bootstrap(hard, hard[1:])
    with pytest.raises(ValueError, match='finite'):
        bootstrap.paired_bootstrap(hard, np.full(1000, np.nan))
