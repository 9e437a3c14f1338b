"""XLA's convolution, and the gradient of its inputs as one more convolution.

XLA hands convolutions to oneDNN on a CPU if it recognises them. The gradient that JAX derives, with
its kernel reversed by a flag, it does not; a forward convolution with a reversed kernel it does.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import custom_batching, lax

from hybrid.ops.taps import Padding, Strides


def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """XLA's convolution: [B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _by_member(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """`convolve`, which members of an ensemble go through one after another.

    Batched over kernels XLA makes a grouped convolution of it, which no CPU has a kernel for.
    """

    @custom_batching.custom_vmap
    def of_one(x, kernel):
        return convolve(x, kernel, strides, padding)

    @of_one.def_vmap
    def of_members(members, batched, x, kernel):
        outputs = [
            of_one(*(a[m] if own else a for a, own in zip((x, kernel), batched, strict=True)))
            for m in range(members)
        ]
        return jnp.stack(outputs), True

    return of_one(x, kernel)


def forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """[B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    return _by_member(x, kernel, strides, padding)


def input_gradient(
    dy: jax.Array, kernel: jax.Array, shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Gradient [B, h, w, N] of the outputs to that of the inputs, of the given shape."""
    pads, spread = [], [(0, 0, 0)]
    for axis, (taps, stride) in enumerate(zip(kernel.shape[:2], strides, strict=True), start=1):
        before = taps - 1 - padding[axis - 1][0]
        length = stride * (dy.shape[axis] - 1) + 1
        pads.append((before, shape[axis] - (length + before - taps + 1)))
        spread.append((0, 0, stride - 1))
    if strides != (1, 1):
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), [*spread, (0, 0, 0)])
    return _by_member(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (1, 1), (pads[0], pads[1]))
