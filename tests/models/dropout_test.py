import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models.dropout import Dropout


def example_keys(positions):
    fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return fold_in(jax.random.key(7), jnp.asarray(positions))


def drop(x, keys, rate=0.5, train=True):
    return Dropout(rate).apply({}, x, keys, train=train)


def test_mask_belongs_to_the_example_not_to_its_place():
    x = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    whole = drop(x, example_keys(range(8)))
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    np.testing.assert_array_equal(drop(x[order], example_keys(order)), whole[order])
    np.testing.assert_array_equal(drop(x[6:7], example_keys([6])), whole[6:7])
    assert np.any((whole[0] == 0) != (whole[1] == 0))


def test_mask_is_independent_of_the_number_of_devices():
    x = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    keys = example_keys(range(8))
    whole = drop(x, keys)
    for count in (2, 4):
        mapped = jax.pmap(drop, devices=jax.devices()[:count])
        out = mapped(x.reshape(count, -1, 100), keys.reshape(count, -1))
        np.testing.assert_array_equal(np.asarray(out).reshape(8, 100), whole)


def test_kept_values_are_scaled_and_their_share_is_right():
    out = np.asarray(drop(jnp.ones((16, 50, 40)), example_keys(range(16)), rate=0.2))
    assert np.unique(out).tolist() == [0.0, 1.25]
    # 32,000 draws: the standard deviation of the share is 0.0022.
    assert np.mean(out != 0) == pytest.approx(0.8, abs=0.01)


def test_identity_in_evaluation_and_at_rate_zero():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(drop(x, None, train=False), x)
    np.testing.assert_array_equal(drop(x, None, rate=0.0), x)


def test_raw_keys_equal_typed_keys():
    keys = example_keys(range(4))
    x = jnp.ones((4, 30))
    np.testing.assert_array_equal(drop(x, jax.random.key_data(keys)), drop(x, keys))


def test_bfloat16_stays():
    out = drop(jnp.ones((2, 30), jnp.bfloat16), example_keys(range(2)))
    assert out.dtype == jnp.bfloat16
    assert set(np.unique(out.astype(jnp.float32)).tolist()) == {0.0, 2.0}


def test_missing_keys():
    with pytest.raises(ValueError, match='one key per example'):
        drop(jnp.ones((2, 3)), None)
