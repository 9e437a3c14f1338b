import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.training import losses

NAN = float('nan')


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        # Errors in units of 10 years: 0, 0.5, -3, unknown.
        ('mse', [0.0, 0.25, 9.0, 0.0]),
        ('l1', [0.0, 0.5, 3.0, 0.0]),
        ('huber', [0.0, 0.125, 2.5, 0.0]),
    ],
)
def test_age_loss_by_hand(kind, expected):
    predicted = jnp.array([30.0, 25.0, 10.0, 50.0])
    target = jnp.array([30.0, 20.0, 40.0, NAN])
    values, mask = losses.age_loss(predicted, target, kind, scale=10.0)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert mask.tolist() == [1, 1, 1, 0]
    assert values.dtype == mask.dtype == jnp.float32


def test_huber_delta():
    values, _ = losses.age_loss(
        jnp.array([1.0, 30.0]), jnp.array([0.0, 0.0]), 'huber', scale=10.0, huber_delta=2.0
    )
    np.testing.assert_allclose(values, [0.005, 0.5 * 4 + 2 * 1], rtol=1e-6)


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [('mse', [0.1, -0.6, 0.0]), ('l1', [0.1, -0.1, 0.0]), ('huber', [0.05, -0.1, 0.0])],
)
def test_age_gradient_is_zero_where_unknown(kind, expected):
    target = jnp.array([20.0, 40.0, NAN])

    def total(predicted):
        return jnp.sum(losses.age_loss(predicted, target, kind, scale=10.0)[0])

    gradient = jax.grad(total)(jnp.array([25.0, 10.0, 50.0]))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert gradient[2] == 0


def test_unknown_age_loss():
    with pytest.raises(ValueError, match=r"'rmse'.*mse, l1, huber"):
        losses.age_loss(jnp.zeros(1), jnp.zeros(1), 'rmse')


def test_gender_loss_by_hand():
    # Softmax of (0, log 3) is (1/4, 3/4).
    logits = jnp.tile(jnp.array([0.0, np.log(3.0)], jnp.float32), (3, 1))
    labels = jnp.array([0, 1, -1])
    values, mask = losses.gender_loss(logits, labels)
    np.testing.assert_allclose(values, [np.log(4), np.log(4 / 3), 0], rtol=1e-6)
    assert mask.tolist() == [1, 1, 0]
    assert values.dtype == mask.dtype == jnp.float32

    values, _ = losses.gender_loss(logits, labels, label_smoothing=0.2)
    expected = [0.9 * np.log(4) + 0.1 * np.log(4 / 3), 0.1 * np.log(4) + 0.9 * np.log(4 / 3), 0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_gender_gradient_is_zero_where_unknown():
    labels = jnp.array([1, -1])

    def total(logits):
        return jnp.sum(losses.gender_loss(logits, labels, 0.0)[0])

    gradient = jax.grad(total)(jnp.array([[0.0, np.log(3.0)], [5.0, -5.0]], jnp.float32))
    np.testing.assert_allclose(gradient[0], [0.25, -0.25], rtol=1e-6)
    assert gradient[1].tolist() == [0, 0]


def test_masked_mean():
    values, mask = jnp.array([1.0, 2.0, NAN, 6.0]), jnp.array([1.0, 1.0, 0.0, 1.0])
    assert losses.masked_mean(values, mask) == 3.0
    assert losses.masked_mean(values, jnp.zeros(4)) == 0.0


@pytest.mark.parametrize('count', [2, 4])
def test_shares_and_gradients_sum_to_the_global_ones(count):
    # Known labels are spread unevenly: the first device of four has none.
    target = jnp.array([NAN, NAN, 3.0, NAN, 5.0, 7.0, NAN, 11.0])
    x = jnp.arange(8.0)

    def loss(w, x, target, axis_name=None):
        values, mask = losses.age_loss(w * x, target, 'mse', scale=2.0)
        return losses.masked_mean(values, mask, axis_name)

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
