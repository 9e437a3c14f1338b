import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models.heads import RegressionHead
from hybrid.training.losses import masked_mean, without_largest

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


@pytest.mark.parametrize('count', [1, 2, 4])
def test_the_largest_losses_of_all_devices_are_left_out(count):
    values = jnp.array([1.0, 9.0, 4.0, 7.0, jnp.inf, 7.0, NAN, 8.0])
    mask = jnp.array([1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0])

    def left(rate):
        def on_device(values, mask):
            return without_largest(values, mask, rate, 'batch')

        mapped = jax.pmap(on_device, 'batch', devices=jax.devices()[:count])
        return mapped(values.reshape(count, -1), mask.reshape(count, -1)).reshape(-1)

    np.testing.assert_array_equal(left(0.0), mask)
    # One of seven known ones is 0.14 of them. Of the two sevens the last goes first, and what is
    # not finite stays, as the training has to end there.
    for rate, without in ((0.14, []), (1 / 7, [7]), (0.3, [7, 5]), (0.5, [7, 5, 3])):
        np.testing.assert_array_equal(left(rate), mask.at[jnp.array(without, int)].set(0.0))
    # Ten per cent of ten, which is a little less than one in float32.
    assert without_largest(jnp.arange(10.0), jnp.ones(10), 0.1).sum() == 9
