from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.ops import depthwise

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ('size', 'kernel_size', 'stride', 'zeros'),
    # What TensorFlow's 'SAME' is, by hand.
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 5, 2, (1, 2)), (1, 5, 2, (2, 2))],
)
def test_padding_is_that_of_tensorflow(size, kernel_size, stride, zeros):
    assert depthwise.same_padding(size, kernel_size, stride) == zeros


def results(x, kernel, dy, stride, kernels, dtype=jnp.float32):
    """Outputs and both gradients."""
    padding = tuple(depthwise.same_padding(n, kernel.shape[0], stride) for n in x.shape[1:3])

    def convolve(x, kernel):
        return depthwise.convolution(x, kernel, (stride, stride), padding, kernels)

    y, transpose = jax.vjp(convolve, jnp.asarray(x, dtype), jnp.asarray(kernel, dtype))
    return y, *transpose(jnp.asarray(dy, dtype))


CASES = [((6, 7), 3, 1), ((6, 7), 3, 2), ((5, 8), 5, 2), ((3, 3), 5, 1), ((1, 1), 5, 2)]


@pytest.mark.long
@pytest.mark.parametrize(('size', 'kernel_size', 'stride'), CASES)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_outputs_and_gradients_are_those_of_xlas_convolution(size, kernel_size, stride, dtype):
    x = RNG.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = RNG.normal(size=(kernel_size, kernel_size, 1, 3)).astype(np.float32)
    dy = RNG.normal(size=(2, *(-(-n // stride) for n in size), 3)).astype(np.float32)
    expected = results(x, kernel, dy, stride, 'xla')
    for got, wanted in zip(
        results(x, kernel, dy, stride, 'portable', dtype), expected, strict=True
    ):
        assert got.dtype == dtype
        error = np.abs(np.asarray(got, np.float32) - wanted).max() / np.abs(wanted).max()
        assert error < (1e-6 if dtype == 'float32' else 2e-2)


def test_members_have_kernels_of_their_own():
    x = RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
    kernels = RNG.normal(size=(4, 3, 3, 1, 3)).astype(np.float32)
    dy = RNG.normal(size=(4, 2, 3, 3, 3)).astype(np.float32)

    def of_member(kernel, dy):
        return results(x, kernel, dy, 2, 'portable')

    together = jax.vmap(of_member)(kernels, dy)
    for member in range(4):
        for got, wanted in zip(together, of_member(kernels[member], dy[member]), strict=True):
            np.testing.assert_allclose(got[member], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('members', [0, 3])
def test_lowered_for_a_gpu_it_is_xlas_convolution(members):
    module = depthwise.DepthwiseConv(3, 2, dtype=jnp.bfloat16)
    x = np.zeros((2, 6, 6, 4), np.float32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    assert variables['params']['kernel'].shape == (3, 3, 1, 4)

    def step(variables, x):
        def loss(*arguments):
            y: Any = module.apply(*arguments)
            return y.sum().astype(jnp.float32)

        return jax.grad(loss, (0, 1))(variables, x)

    if members:
        variables = jax.tree.map(
            lambda v: jax.ShapeDtypeStruct((members, *v.shape), v.dtype), variables
        )
        step = jax.vmap(step, in_axes=(0, None))
    traced = jax.jit(step).trace(variables, jax.ShapeDtypeStruct(x.shape, x.dtype))
    text = traced.lower(lowering_platforms=('cuda',)).as_text()
    convolutions = [line for line in text.splitlines() if 'stablehlo.convolution(' in line]
    # The gradients alone: nothing needs the outputs.
    assert len(convolutions) == 2
    assert all(line.count('xbf16>') == 3 for line in convolutions)
