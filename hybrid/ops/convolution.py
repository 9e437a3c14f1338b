"""Convolutions with the parameters and the mathematics of `nn.Conv`, in the form that is fastest.

On GPUs and TPUs that is XLA's own convolution. On CPUs it depends on `config.model.kernels`:

- `portable`: products of float32 matrices, which are fast on any CPU and with any jax; what is
  bfloat16 is computed in float32. XLA's own convolution is slow there at some shapes and very slow
  at others.
- `onednn`: the same products in float32, of which oneDNN computes those for kernels' gradients; in
  bfloat16 oneDNN's convolutions. XLA calls it where a flag allows that (see `hybrid.ops.kernels`).
- `xla`: XLA's convolution everywhere.

A form does one of the three passes of a convolution, and `choose` says which form does it.
`benchmarks/convolution.py` measures all of them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from hybrid.ops import direct, im2col, shifts, winograd
from hybrid.ops.taps import Padding, Strides, output_size

KERNELS = ('portable', 'onednn', 'xla')
PASSES = ('forward', 'input_gradient', 'kernel_gradient')

# Transforming a kernel costs Winograd as much as so many more tiles.
_KERNEL_TILES = 64
# Sums over taps read and write their outputs once for each: im2col may do that much more.
_SEEN = 0.9
# They also copy each tap's part of the kernel, which costs as much as so many more inputs.
_KERNEL_INPUTS = 50
# Outputs of an image up to which taps that see nothing but zeros are worth leaving out in bfloat16.
_SMALL_MAP = 16

xla_convolution = direct.convolve


def fits_winograd(kernel_shape: Sequence[int], strides: Strides, padding: Padding) -> bool:
    """Whether it is a 3x3 convolution at stride 1 with one zero around."""
    return (*kernel_shape[:2], *strides) == (3, 3, 1, 1) and padding == ((1, 1), (1, 1))


def _fewest_products(
    shape: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Strides,
    padding: Padding,
    use_winograd: bool = True,
) -> str:
    """The form that needs the fewest products of an input and a parameter."""
    batch, height, width, _ = shape
    taps = kernel_shape[0] * kernel_shape[1]
    seen = batch * shifts.count(shape, kernel_shape, strides, padding)
    if use_winograd and fits_winograd(kernel_shape, strides, padding):
        places, tiles = winograd.count(height, width)
        if places * (batch * tiles + _KERNEL_TILES) <= seen:
            return 'winograd'
    rows, columns = output_size(shape, kernel_shape, strides, padding)
    gathered = batch * rows * columns * taps
    copied = _KERNEL_INPUTS * taps if taps > 1 else 0
    return 'shifts' if seen + copied <= _SEEN * gathered else 'im2col'


def choose(
    of_pass: str,
    shape: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Strides,
    padding: Padding,
    kernels: str = 'portable',
    dtype: DTypeLike = jnp.float32,
) -> str:
    """The form that does a pass on a CPU: a key of FORMS.

    In bfloat16 Winograd's filtering gives kernels' gradients alone: its error there is 0.5 to 0.6 %
    of their norm, three times that of a plain sum, which is little beside the noise of a batch.

    Args:
      of_pass: One of the PASSES.
      shape: [B, H, W, C] of the inputs.
      kernel_shape: [kh, kw, C, N].
      strides: Of both axes.
      padding: Before and after, of both axes.
      kernels: 'portable' or 'onednn'.
      dtype: Of the computation.
    """
    rows, columns = output_size(shape, kernel_shape, strides, padding)
    in_float32 = kernels == 'portable' or jnp.dtype(dtype) == jnp.float32
    if in_float32 or tuple(kernel_shape[:2]) == (1, 1) or rows * columns <= _SMALL_MAP:
        form = _fewest_products(shape, kernel_shape, strides, padding, in_float32)
        # The gradients of all patches would have to be written and read again.
        return 'shifts' if (form, of_pass) == ('im2col', 'input_gradient') else form
    if of_pass != 'kernel_gradient':
        return 'direct' if of_pass == 'forward' or strides == (1, 1) else 'shifts'
    return 'winograd' if fits_winograd(kernel_shape, strides, padding) else 'im2col'


# What does which pass: a function with the arguments of the one in `shifts`.
FORMS: dict[str, dict[str, Callable]] = {
    'direct': {'forward': direct.forward, 'input_gradient': direct.input_gradient},
    'im2col': {'forward': im2col.forward, 'kernel_gradient': im2col.kernel_gradient},
    'shifts': {name: getattr(shifts, name) for name in PASSES},
}
FORMS['winograd'] = {
    'forward': lambda x, kernel, strides, padding: winograd.forward(x, kernel),
    'input_gradient': lambda dy, kernel, shape, strides, padding: winograd.input_gradient(
        dy, kernel
    ),
    'kernel_gradient': lambda x, dy, kernel_shape, strides, padding: winograd.kernel_gradient(
        x, dy
    ),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolution(
    x: jax.Array,
    kernel: jax.Array,
    strides: Strides,
    padding: Padding,
    kernels: str = 'portable',
) -> jax.Array:
    """Cross-correlates [B, H, W, C] with [kh, kw, C, N]: [B, h, w, N].

    Args:
      x: Inputs, of the same dtype as the kernel.
      kernel: Filters.
      strides: Of both axes.
      padding: Zeros before and after, of both axes.
      kernels: What CPUs take, one of the KERNELS.
    """
    elsewhere = functools.partial(xla_convolution, strides=strides, padding=padding)
    if kernels == 'xla':
        return elsewhere(x, kernel)
    form = choose('forward', x.shape, kernel.shape, strides, padding, kernels, x.dtype)
    on_cpu = functools.partial(FORMS[form]['forward'], strides=strides, padding=padding)
    return _by_platform(kernels, on_cpu, elsewhere, x, kernel)


def _forward(x, kernel, strides, padding, kernels):
    return convolution(x, kernel, strides, padding, kernels), (x, kernel)


def _backward(strides, padding, kernels, saved, dy):
    x, kernel = saved
    settings = {'strides': strides, 'padding': padding}

    def xla(x, kernel):
        return xla_convolution(x, kernel, strides, padding)

    def of_input_elsewhere(dy, kernel):
        return _transpose(lambda x: xla(x, kernel), x, dy)

    def of_kernel_elsewhere(x, dy):
        return _transpose(lambda kernel: xla(x, kernel), kernel, dy)

    if kernels == 'xla':
        return of_input_elsewhere(dy, kernel), of_kernel_elsewhere(x, dy)
    of_input, of_kernel = (
        FORMS[choose(name, x.shape, kernel.shape, strides, padding, kernels, x.dtype)][name]
        for name in PASSES[1:]
    )
    of_input = functools.partial(of_input, shape=x.shape, **settings)
    of_kernel = functools.partial(of_kernel, kernel_shape=kernel.shape, **settings)
    return (
        _by_platform(kernels, of_input, of_input_elsewhere, dy, kernel),
        _by_platform(kernels, of_kernel, of_kernel_elsewhere, x, dy),
    )


convolution.defvjp(_forward, _backward)


def _transpose(linear: Callable[[jax.Array], jax.Array], like: jax.Array, dy: jax.Array):
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(like.shape, like.dtype))(dy)[0]


def _by_platform(
    kernels: str, on_cpu: Callable, elsewhere: Callable, *arrays: jax.Array
) -> jax.Array:
    """Lowers one function or the other. Portable kernels compute in float32: bfloat16 is slow."""

    def in_float32(*arrays):
        dtype = arrays[0].dtype
        return on_cpu(*(a.astype(jnp.float32) for a in arrays)).astype(dtype)

    cpu = in_float32 if kernels == 'portable' else on_cpu
    return lax.platform_dependent(*arrays, cpu=cpu, default=elsewhere)


class Conv(nn.Module):
    """A drop-in for a two-dimensional `nn.Conv` with explicit padding and no bias.

    Attributes:
      features: N, channels of the output.
      kernel_size: Height and width.
      strides: Of both axes.
      padding: Zeros before and after, of both axes.
      dtype: of the computation; the kernel, [kh, kw, C, N] under the name `kernel`, is float32.
      kernel_init: initialiser of the kernel.
      kernels: what CPUs take, one of the KERNELS.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: Strides = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dtype: DTypeLike = jnp.float32
    kernel_init: Any = nn.initializers.lecun_normal()
    kernels: str = 'portable'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, jnp.float32)
        return convolution(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            self.strides,
            self.padding,
            self.kernels,
        )
