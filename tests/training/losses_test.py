import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models.heads import RegressionHead
from hybrid.training.losses import masked_mean

NAN = float('nan')


def test_masked_mean():
    values, mask = jnp.array([1.0, 2.0, NAN, 6.0]), jnp.array([1.0, 1.0, 0.0, 1.0])
    assert masked_mean(values, mask) == 3.0
    assert masked_mean(values, jnp.zeros(4)) == 0.0


@pytest.mark.parametrize('count', [2, 4])
def test_shares_and_gradients_sum_to_the_global_ones(count):
    # Known labels are spread unevenly: the first device of four has none.
    target = jnp.array([NAN, NAN, 3.0, NAN, 5.0, 7.0, NAN, 11.0])
    x = jnp.arange(8.0)

    def loss(w, x, target, axis_name=None):
        values, mask = RegressionHead(0.0, 2.0).loss(w * x, {'age': target})
        return masked_mean(values, mask, axis_name)

    def step(w, x, target):
        return jax.lax.psum(jax.value_and_grad(loss)(w, x, target, 'batch'), 'batch')

    mapped = jax.pmap(
        step,
        'batch',
        in_axes=(None, 0, 0),
        out_axes=None,
        devices=jax.devices()[:count],
    )
    got = mapped(0.5, x.reshape(count, -1), target.reshape(count, -1))
    # Errors -2, -3, -4.5, -7.5 over 2 years, mean of squares; derivative 2 * error * x / scale^2.
    expected_loss = (4 + 9 + 20.25 + 56.25) / 4 / 4
    expected_gradient = 2 * (-2 * 2 - 3 * 4 - 4.5 * 5 - 7.5 * 7) / 4 / 4
    np.testing.assert_allclose(got, (expected_loss, expected_gradient), rtol=1e-6)
    np.testing.assert_allclose(
        jax.value_and_grad(loss)(0.5, x, target), (expected_loss, expected_gradient), rtol=1e-6
    )
