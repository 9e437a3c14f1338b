import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.ops import pooling


def draw(shape, seed=0):
    """Few different values, so that equal maxima are the rule, as after a ReLU."""
    values = np.random.default_rng(seed).integers(-1, 4, shape)
    return jnp.asarray(np.maximum(values, 0), jnp.float32)


def both(function, x, dy):
    y, pull = jax.vjp(function, x)
    return y, pull(dy)[0]


@pytest.mark.parametrize(
    'shape', [(2, 8, 8, 3), (3, 7, 9, 2), (1, 1, 2, 1), (4, 5, 1, 2), (5, 48, 48, 4)]
)
def test_equals_xla(shape):
    x = draw(shape)
    rows, columns = (shape[1] + 1) // 2, (shape[2] + 1) // 2
    dy = jnp.asarray(np.random.default_rng(1).normal(size=(shape[0], rows, columns, shape[3])))
    y, dx = jax.jit(lambda *a: both(pooling.max_pool, *a))(x, dy.astype(jnp.float32))
    expected_y, expected_dx = both(pooling.xla_max_pool, x, dy.astype(jnp.float32))
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=2e-6)


def test_pads_with_minus_infinity():
    x = -jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    assert pooling.max_pool(x)[0, :, :, 0].tolist() == [[-1, -2], [-5, -6]]


def test_gradient_goes_to_the_first_of_equals():
    dx = jax.grad(lambda x: pooling.max_pool(x).sum())(jnp.ones((1, 4, 4, 1)))
    # Windows start at rows and columns -1 and 1.
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert dx[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('sign', [1, -1])
def test_what_is_not_a_number_stays(dtype, sign):
    values = np.ones((1, 4, 4, 1), np.float32)
    values[0, 1, 1, 0] = np.copysign(np.nan, sign)
    x = jnp.asarray(values, dtype)
    assert np.signbit(np.float32(x[0, 1, 1, 0])) == (sign < 0)
    assert np.isnan(np.float32(pooling.max_pool(x))).all()


@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (3, 7, 9, 2), (1, 1, 2, 1), (5, 48, 48, 4)])
def test_bfloat16_of_any_sign_is_exact(shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.bfloat16)
    x = x.at[0, 0, 0, 0].set(-jnp.inf).at[-1, -1, -1, -1].set(jnp.inf)
    # Small whole numbers, whose sums bfloat16 holds.
    rows, columns = (shape[1] + 1) // 2, (shape[2] + 1) // 2
    dy = jnp.asarray(rng.integers(-9, 9, (shape[0], rows, columns, shape[3])), jnp.bfloat16)
    got = jax.jit(lambda *a: both(pooling.max_pool, *a))(x, dy)
    expected = both(pooling.xla_max_pool, x.astype(jnp.float32), dy.astype(jnp.float32))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.float32(ours), theirs)


def test_vmapped():
    x = jnp.stack([draw((2, 6, 6, 3), seed) for seed in range(3)])
    dy = jnp.ones((3, 2, 3, 3, 3))
    got = jax.vmap(lambda *a: both(pooling.max_pool, *a))(x, dy)
    expected = jax.vmap(lambda *a: both(pooling.xla_max_pool, *a))(x, dy)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_on_accelerators_it_is_xlas_own(dtype):
    x, dy = draw((2, 8, 8, 3)).astype(dtype), jnp.ones((2, 4, 4, 3), dtype)
    texts = [
        jax.jit(lambda *a, f=function: both(f, *a))
        .trace(x, dy)
        .lower(lowering_platforms=('cuda',))
        .as_text()
        for function in (pooling.max_pool, pooling.xla_max_pool)
    ]
    for operation in ('reduce_window', 'select_and_scatter', 'while'):
        counts = [text.count(f'stablehlo.{operation}"') for text in texts]
        assert counts[0] == counts[1]
    assert texts[0].count('stablehlo.select_and_scatter"') == 1
