import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models.heads import AgeHead, GenderHead

FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def test_age_is_scaled_and_shifted_to_years():
    head = AgeHead(age_offset=33.0, age_scale=20.0)
    kernel = np.arange(8, dtype=np.float32).reshape(8, 1) / 10
    params = {'output': {'kernel': kernel, 'bias': np.array([0.5], np.float32)}}
    got = np.asarray(head.apply({'params': params}, FEATURES))
    expected = (FEATURES @ kernel[:, 0] + 0.5) * 20 + 33
    assert got.shape == (5,)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_first_ages_are_near_the_offset():
    head = AgeHead(age_offset=33.0, age_scale=20.0)
    features = np.random.default_rng(1).normal(size=(100, 256)).astype(np.float32)
    ages, _ = head.init_with_output(jax.random.key(0), features)
    # Standard deviation: 0.01 * sqrt(256) * 20 = 3.2 years.
    assert np.mean(ages) == pytest.approx(33, abs=1.5)
    assert 2.0 < np.std(ages) < 4.5


def test_gender_logits():
    kernel = np.arange(16, dtype=np.float32).reshape(8, 2) / 10
    bias = np.array([1.0, -2.0], np.float32)
    params = {'output': {'kernel': kernel, 'bias': bias}}
    got = np.asarray(GenderHead().apply({'params': params}, FEATURES))
    np.testing.assert_allclose(got, FEATURES @ kernel + bias, rtol=1e-5)


@pytest.mark.parametrize(
    ('head', 'outputs'), [(AgeHead(30.0, 10.0, hidden=4), 1), (GenderHead(hidden=4), 2)]
)
def test_hidden_layer(head, outputs):
    params = head.init(jax.random.key(0), FEATURES)['params']
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {
        'hidden_layer': {'kernel': (8, 4), 'bias': (4,)},
        'output': {'kernel': (4, outputs), 'bias': (outputs,)},
    }
    hidden = np.maximum(FEATURES @ np.asarray(params['hidden_layer']['kernel']), 0)
    expected = hidden @ np.asarray(params['output']['kernel'])
    if outputs == 1:
        expected = expected[:, 0] * 10 + 30
    got = np.asarray(head.apply({'params': params}, FEATURES))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize('head', [AgeHead(30.0, 10.0), GenderHead()])
def test_float32_from_bfloat16(head):
    out, variables = head.init_with_output(jax.random.key(0), FEATURES.astype(jnp.bfloat16))
    assert out.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
