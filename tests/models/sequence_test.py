from typing import Any

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


def test_several_maps_are_projected_normalised_and_joined_in_their_order():
    fine = jnp.arange(8.0).reshape(1, 2, 2, 2)
    coarse = jnp.array([[[[5.0]]]])
    params = {
        # Of [a, b] it makes [a, a + b], which the norm brings to -1 and 1 (b is never 0 here).
        'fine_projection': {'kernel': np.array([[1.0, 1], [0, 1]]), 'bias': np.zeros(2)},
        'fine_norm': {'scale': np.ones(2), 'bias': np.array([0.0, 10])},
        'coarse_projection': {'kernel': np.array([[2.0, 0]]), 'bias': np.array([0.0, 1])},
        'coarse_norm': {'scale': np.array([3.0, 3]), 'bias': np.zeros(2)},
    }
    module: Any = sequence.Patches(('fine', 'coarse'), 'serpentine', features=2)
    (got,) = module.apply({'params': params}, (fine, coarse))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[[-1, 11]] * 4 + [[3, -3]]], atol=1e-5)
    # Turned around, fine patches still differ in nothing but their place.
    reversed_: Any = sequence.Patches(('coarse', 'fine'), 'raster', features=2)
    (got,) = reversed_.apply({'params': params}, (coarse, fine))
    np.testing.assert_allclose(got, [[[3, -3]] + [[-1, 11]] * 4], atol=1e-5)


def test_maps_that_stay_apart_and_one_alone_have_no_parameters():
    maps = (np.ones((1, 2, 2, 3)), np.ones((1, 1, 1, 5)))
    for module, given in (
        (sequence.Patches(('a', 'b')), maps),
        (sequence.Patches(('a',), features=7), maps[:1]),
        (sequence.Patches(features=7), maps[:1]),
    ):
        got, variables = module.init_with_output(jax.random.key(0), given)
        assert variables == {}
        assert [x.shape for x in got] == [(1, 4, 3), (1, 1, 5)][: len(given)]
