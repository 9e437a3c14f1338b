import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import devices
from hybrid.ops import normalization

SHAPE = (8, 5, 6, 7)


def draw(seed=0, dtype=jnp.float32):
    """Values whose mean is not zero, another in each channel, and a gradient of their size."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.normal(size=SHAPE) + np.arange(SHAPE[-1])
    return jnp.asarray(x, dtype), jnp.asarray(rng.normal(size=SHAPE), dtype)


def variables(seed=1):
    rng = np.random.default_rng(seed)
    names = {'params': ('scale', 'bias'), 'batch_stats': ('mean', 'var')}
    return {
        collection: {
            name: jnp.asarray(rng.uniform(0.5, 1.5, SHAPE[-1]), jnp.float32) for name in members
        }
        for collection, members in names.items()
    }


def run(module, x, dy, of_variables):
    """Outputs, running statistics, and gradients of inputs and parameters."""

    def apply(x, params):
        return module.apply({**of_variables, 'params': params}, x, mutable=['batch_stats'])

    y, pull, updates = jax.vjp(apply, x, of_variables['params'], has_aux=True)
    return y, updates, *pull(dy)


def close(got, expected, tolerance):
    def compare(ours, theirs):
        assert ours.dtype == theirs.dtype
        ours, theirs = np.float64(ours), np.float64(theirs)
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()

    jax.tree.map(compare, got, expected)


def test_variables_are_flaxs():
    x, _ = draw()
    ours = normalization.BatchNorm(use_running_average=False)
    flax = nn.BatchNorm(use_running_average=False)
    made = [module.init(jax.random.key(0), x) for module in (ours, flax)]
    jax.tree.map(np.testing.assert_array_equal, *made)
    zero = normalization.BatchNorm(False, scale_init=nn.initializers.zeros)
    assert (zero.init(jax.random.key(0), x)['params']['scale'] == 0).all()


@pytest.mark.parametrize('running', [True, False])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_equals_flax(running, dtype, tolerance):
    x, dy = draw(dtype=dtype)
    settings = {'use_running_average': running, 'momentum': 0.8, 'epsilon': 1e-3, 'dtype': dtype}
    got = run(normalization.BatchNorm(**settings), x, dy, variables())
    expected = run(nn.BatchNorm(**settings), x, dy, variables())
    close(got, expected, tolerance)


def test_gradients_are_those_of_finite_differences():
    x, dy = (np.float64(a) for a in draw())
    of_variables = variables()
    scale, bias = (np.float64(of_variables['params'][name]) for name in ('scale', 'bias'))

    def loss(x):
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        return (((x - mean) / np.sqrt(variance + 1e-5) * scale + bias) * dy).sum()

    inputs, gradient = draw()
    _, _, dx, _ = run(normalization.BatchNorm(False), inputs, gradient, of_variables)
    for place in [(0, 0, 0, 0), (3, 2, 5, 6), (7, 4, 1, 3)]:
        moved = np.zeros(SHAPE)
        moved[place] = 1e-5
        expected = (loss(x + moved) - loss(x - moved)) / 2e-5
        assert dx[place] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_batch_over_devices_is_one_batch():
    x, dy = draw()
    of_variables = variables()
    whole = run(normalization.BatchNorm(False), x, dy, of_variables)

    def of_device(x, dy):
        module = normalization.BatchNorm(False, axis_name=devices.AXIS)
        y, updates, dx, grads = run(module, x, dy, of_variables)
        return y, updates, dx, jax.lax.psum(grads, devices.AXIS)

    count = jax.device_count()
    assert count == 4
    shares = [a.reshape(count, -1, *SHAPE[1:]) for a in (x, dy)]
    y, updates, dx, grads = jax.pmap(of_device, axis_name=devices.AXIS)(*shares)
    first = functools.partial(jax.tree.map, lambda a: a[0])
    joined = (y.reshape(SHAPE), first(updates), dx.reshape(SHAPE), first(grads))
    close(joined, whole, 1e-5)


def test_a_constant_channel_is_no_division_by_zero():
    x = jnp.full(SHAPE, 1000.1)
    _, dy = draw()
    y, updates, dx, _ = run(normalization.BatchNorm(False), x, dy, variables())
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    assert (updates['batch_stats']['var'] >= 0).all()
