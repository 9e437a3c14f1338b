import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models import sequence


@pytest.mark.parametrize(
    ('order', 'expected'),
    [
        ('raster', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ('serpentine', [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]),
        ('column', [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]),
    ],
)
def test_order(order, expected):
    feature_map = jnp.arange(12).reshape(1, 3, 4, 1) + 100 * jnp.arange(2).reshape(2, 1, 1, 1)
    got = sequence.to_sequence(feature_map, order)
    assert got.shape == (2, 12, 1)
    assert got[0, :, 0].tolist() == expected
    assert got[1, :, 0].tolist() == [100 + value for value in expected]


@pytest.mark.parametrize('order', sequence.ORDERS)
def test_channels_stay_together(order):
    feature_map = jax.random.normal(jax.random.key(0), (2, 3, 3, 5))
    got = sequence.to_sequence(feature_map, order)
    vectors = {tuple(v) for v in np.asarray(feature_map[1]).reshape(9, 5).tolist()}
    assert {tuple(v) for v in got[1].tolist()} == vectors


def test_unknown_order():
    with pytest.raises(ValueError, match=r"'spiral'.*raster, serpentine, column"):
        sequence.to_sequence(jnp.zeros((1, 2, 2, 1)), 'spiral')
