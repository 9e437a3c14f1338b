"""Convolutions with the parameters and the mathematics of `nn.Conv`, lowered to what is fast.

On GPUs and TPUs that is XLA's own convolution. On CPUs, where XLA's is slow at some shapes and very
slow at others, it is Winograd's filtering, a sum of products tap by tap or one product over
gathered patches, whichever takes less arithmetic: matrix products, which stay fast when ensembles
add a member axis to the kernels. `benchmarks/convolution.py` measures all of them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from hybrid.models import im2col, shifts, winograd
from hybrid.models.im2col import Padding, Strides

# Transforming a kernel costs Winograd as much as so many more tiles.
_KERNEL_TILES = 64
# Sums over taps read and write their outputs once for each: im2col may do that much more.
_SEEN = 0.9


def xla_convolution(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding
) -> jax.Array:
    """XLA's own convolution: [B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def choose(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> str:
    """The form for CPUs that needs the fewest products: 'winograd', 'shifts' or 'im2col'.

    Args:
      shape: [B, H, W, C] of the inputs.
      kernel_shape: [kh, kw, C, N].
      strides: Of both axes.
      padding: Before and after, of both axes.
    """
    batch, height, width, _ = shape
    seen = batch * shifts.count(shape, kernel_shape, strides, padding)
    if (*kernel_shape[:2], *strides) == (3, 3, 1, 1) and padding == ((1, 1), (1, 1)):
        places, tiles = winograd.count(height, width)
        if places * (batch * tiles + _KERNEL_TILES) <= seen:
            return 'winograd'
    rows, columns = im2col.output_size(shape, kernel_shape, strides, padding)
    gathered = batch * rows * columns * kernel_shape[0] * kernel_shape[1]
    return 'shifts' if seen <= _SEEN * gathered else 'im2col'


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Cross-correlates [B, H, W, C] with [kh, kw, C, N]: [B, h, w, N].

    Args:
      x: Inputs, of the same dtype as the kernel.
      kernel: Filters.
      strides: Of both axes.
      padding: Zeros before and after, of both axes.
    """
    form = choose(x.shape, kernel.shape, strides, padding)
    on_cpu: Callable = winograd.forward
    if form != 'winograd':
        module = shifts if form == 'shifts' else im2col
        on_cpu = functools.partial(module.forward, strides=strides, padding=padding)
    elsewhere = functools.partial(xla_convolution, strides=strides, padding=padding)
    return _by_platform(on_cpu, elsewhere, x, kernel)


def _forward(x, kernel, strides, padding):
    return convolution(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, saved, dy):
    x, kernel = saved
    settings = {'strides': strides, 'padding': padding}
    form = choose(x.shape, kernel.shape, strides, padding)
    of_input: Callable = winograd.input_gradient
    of_kernel: Callable = winograd.kernel_gradient
    if form != 'winograd':
        module = shifts if form == 'shifts' else im2col
        # Patches' gradients would have to be written and read again: tap by tap in either case.
        of_input = functools.partial(shifts.input_gradient, shape=x.shape, **settings)
        of_kernel = functools.partial(module.kernel_gradient, kernel_shape=kernel.shape, **settings)

    def xla(x, kernel):
        return xla_convolution(x, kernel, strides, padding)

    return (
        _by_platform(
            of_input, lambda dy, kernel: _transpose(lambda x: xla(x, kernel), x, dy), dy, kernel
        ),
        _by_platform(
            of_kernel, lambda x, dy: _transpose(lambda kernel: xla(x, kernel), kernel, dy), x, dy
        ),
    )


convolution.defvjp(_forward, _backward)


def _transpose(linear: Callable[[jax.Array], jax.Array], like: jax.Array, dy: jax.Array):
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(like.shape, like.dtype))(dy)[0]


def _by_platform(on_cpu: Callable, elsewhere: Callable, *arrays: jax.Array) -> jax.Array:
    """Lowers one function or the other. On CPUs all arithmetic is float32: bfloat16 is emulated."""

    def in_float32(*arrays):
        dtype = arrays[0].dtype
        return on_cpu(*(a.astype(jnp.float32) for a in arrays)).astype(dtype)

    return lax.platform_dependent(*arrays, cpu=in_float32, default=elsewhere)


class Conv(nn.Module):
    """A drop-in for a two-dimensional `nn.Conv` with explicit padding and no bias.

    Attributes:
      features: N, channels of the output.
      kernel_size: Height and width.
      strides: Of both axes.
      padding: Zeros before and after, of both axes.
      dtype: of the computation; the kernel, [kh, kw, C, N] under the name `kernel`, is float32.
      kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: Strides = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dtype: DTypeLike = jnp.float32
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, jnp.float32)
        return convolution(
            x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding
        )
