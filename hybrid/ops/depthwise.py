"""Depthwise convolution: each channel is filtered by a kernel of its own.

On GPUs and TPUs this is XLA's grouped convolution. XLA has no fast form of that for CPUs, where
`config.model.kernels='xla'` alone takes it. A depthwise convolution has so few products that memory
is what it waits for, so it is computed here as one sum of shifted inputs, which XLA fuses into one
pass. A training step of EfficientNet-Lite0 at 96 pixels and batch 32 was 11 times as fast as with
XLA's convolutions (two cores of a busy AMD EPYC, jax 0.12.0.1).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from hybrid.ops.taps import Padding, Strides, output_size


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """The zeros before and after an axis by which TensorFlow's 'SAME' pads it.

    Where their number is odd, there is one more after than before.
    """
    outputs = -(-size // stride)
    zeros = max((outputs - 1) * stride + kernel_size - size, 0)
    return zeros // 2, zeros - zeros // 2


def xla_convolution(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding
) -> jax.Array:
    """XLA's own: [B, H, W, C] and [kh, kw, 1, C] to [B, h, w, C]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolution(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, kernels: str = 'portable'
) -> jax.Array:
    """Cross-correlates each channel of [B, H, W, C] with its part of [kh, kw, 1, C]: [B, h, w, C].

    Args:
      x: Inputs, of the same dtype as the kernel.
      kernel: Filters.
      strides: Of both axes.
      padding: Zeros before and after, of both axes.
      kernels: What CPUs take, one of `convolution.KERNELS`; all but 'xla' are the same here.
    """

    def elsewhere(x, kernel):
        return xla_convolution(x, kernel, strides, padding)

    def on_cpu(x, kernel):
        size = output_size(x.shape, kernel.shape, strides, padding)
        return _correlate(_pad(x, padding), kernel, size, strides)

    return _by_platform(kernels, on_cpu, elsewhere, x, kernel)


def _forward(x, kernel, strides, padding, kernels):
    return convolution(x, kernel, strides, padding, kernels), (x, kernel)


def _backward(strides, padding, kernels, saved, dy):
    x, kernel = saved

    def of_input(dy, kernel):
        # A correlation with the kernel turned round, of what is spread by the strides.
        around = []
        for axis, stride in enumerate(strides):
            taps, before = kernel.shape[axis], kernel.shape[axis] - 1 - padding[axis][0]
            spread = stride * (dy.shape[1 + axis] - 1) + 1
            around.append((before, x.shape[1 + axis] + taps - 1 - before - spread))
        dy = _pad(dy, (around[0], around[1]), strides)
        return _correlate(dy, jnp.flip(kernel, (0, 1)), x.shape[1:3], (1, 1))

    def of_input_elsewhere(dy, kernel):
        return jax.vjp(lambda x: xla_convolution(x, kernel, strides, padding), x)[1](dy)[0]

    def of_kernel(x, dy):
        # The barrier has the padded inputs written once, rather than made anew for each tap.
        padded = lax.optimization_barrier(_pad(x, padding))
        dy = dy.astype(jnp.float32)
        products = tuple(
            _shifted(padded, place, dy.shape[1:3], strides) * dy for place in _places(kernel)
        )
        zeros = (jnp.float32(0),) * len(products)
        # One pass for all taps; a sum for each would read inputs and gradients as many times.
        sums = lax.reduce(products, zeros, _add, (0, 1, 2))
        return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)

    def of_kernel_elsewhere(x, dy):
        return jax.vjp(lambda k: xla_convolution(x, k, strides, padding), kernel)[1](dy)[0]

    return (
        _by_platform(kernels, of_input, of_input_elsewhere, dy, kernel),
        _by_platform(kernels, of_kernel, of_kernel_elsewhere, x, dy),
    )


convolution.defvjp(_forward, _backward)


def _add(ones, others):
    return tuple(one + other for one, other in zip(ones, others, strict=True))


def _by_platform(kernels, on_cpu, elsewhere, *arrays):
    if kernels == 'xla':
        return elsewhere(*arrays)
    return lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)


def _pad(x: jax.Array, padding: Padding, spread: Strides = (1, 1)) -> jax.Array:
    """Puts zeros around [B, H, W, C], and between its places to spread them by some strides."""
    config = [(*pads, stride - 1) for pads, stride in zip(padding, spread, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _places(kernel: jax.Array) -> list[tuple[int, int]]:
    return [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]


def _shifted(x, place, size, strides):
    """What a tap at a place sees of padded inputs, for outputs of a size, in float32."""
    down, across = (
        slice(start, start + stride * (length - 1) + 1, stride)
        for start, length, stride in zip(place, size, strides, strict=True)
    )
    return x[:, down, across].astype(jnp.float32)


def _correlate(x, kernel, size, strides):
    """Correlates padded inputs with a kernel; sums in float32."""
    total = sum(
        _shifted(x, place, size, strides) * kernel[place][0].astype(jnp.float32)
        for place in _places(kernel)
    )
    return jnp.asarray(total).astype(x.dtype)


class DepthwiseConv(nn.Module):
    """A depthwise convolution without bias, padded as TensorFlow's 'SAME' does it.

    Attributes:
      kernel_size: Height and width.
      stride: Of both axes.
      dtype: Of the computation; the kernel, [kh, kw, 1, C] under the name `kernel`, is float32.
      kernel_init: Initialiser of the kernel.
      kernels: What CPUs take, see `convolution`.
    """

    kernel_size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    # As one output has kh * kw products.
    kernel_init: Any = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
    kernels: str = 'portable'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, C]."""
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param('kernel', self.kernel_init, shape, jnp.float32)
        down, across = (same_padding(n, self.kernel_size, self.stride) for n in x.shape[1:3])
        return convolution(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            (down, across),
            self.kernels,
        )
