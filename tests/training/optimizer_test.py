import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import default_config
from hybrid.training import optimizer


@pytest.fixture
def config():
    return default_config.get_config().optimizer


def test_warm_up_then_cosine_to_zero(config):
    config.learning_rate, config.warmup = 0.1, 0.2
    rate = optimizer.create_learning_rate_fn(config, 10)
    assert [float(rate(s)) for s in range(3)] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    for step in (3, 6, 9):
        expected = 0.05 * (1 + np.cos(np.pi * (step - 2) / 8))
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    assert float(rate(10)) == pytest.approx(0, abs=1e-8)


def test_constant_without_warm_up(config):
    config.schedule, config.warmup, config.learning_rate = 'constant', 0.0, 0.3
    rate = optimizer.create_learning_rate_fn(config, 10)
    assert float(rate(0)) == pytest.approx(0.3)
    assert float(rate(9)) == pytest.approx(0.3)


def test_one_cycle_warms_up_and_falls_by_cosines(config):
    config.schedule, config.learning_rate, config.warmup = 'one_cycle', 0.1, 0.4
    rate = optimizer.create_learning_rate_fn(config, 10)
    for step in range(5):
        expected = 0.004 + 0.096 * (1 - np.cos(np.pi * step / 4)) / 2
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    for step in range(4, 11):
        expected = 0.05 * (1 + np.cos(np.pi * (step - 4) / 6))
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_weight_decay_spares_biases_and_norms(config):
    config.gradient_clip, config.weight_decay = 0.0, 0.1
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2), 'scale': jnp.ones(2)}
    zero = {name: jnp.zeros_like(x) for name, x in params.items()}
    for name in ('adamw', 'sgd'):
        config.name = name
        tx = optimizer.create_optimizer(config, lambda step: 0.5)
        updates, _ = tx.update(zero, tx.init(params), params)
        np.testing.assert_allclose(updates['kernel'], -0.05, rtol=1e-6)
        np.testing.assert_array_equal(updates['bias'], 0)
        np.testing.assert_array_equal(updates['scale'], 0)


def test_first_steps_by_hand(config):
    config.weight_decay, config.gradient_clip = 0.0, 1.0
    params, grads = {'w': jnp.zeros((1, 2))}, {'w': jnp.array([[3.0, 4.0]])}
    config.name, config.momentum = 'sgd', 0.9
    tx = optimizer.create_optimizer(config, lambda step: 1.0)
    updates, _ = tx.update(grads, tx.init(params), params)
    # Clipped to norm 1, then Nesterov: g + 0.9 * (g + 0.9 * 0).
    np.testing.assert_allclose(updates['w'], [[-0.6 * 1.9, -0.8 * 1.9]], rtol=1e-5)
    config.name = 'adamw'
    tx = optimizer.create_optimizer(config, lambda step: 0.01)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates['w'], [[-0.01, -0.01]], rtol=1e-4)
