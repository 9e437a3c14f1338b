"""Convolutions as a sum of matrix products, one a tap, over what of the map each tap sees.

Where a tap would see nothing but the zeros around the map, nothing is multiplied: on a map of 2x2
that leaves 16 of the 36 products of nine taps and four outputs. Kernels, most of the memory where
maps are this small, are read where they lie.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hybrid.ops import taps
from hybrid.ops.taps import Padding, Strides, output_size


def count(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> int:
    """How many products of a tap and an input an image takes, for each pair of channels."""
    return sum(
        (down.stop - down.start) * (across.stop - across.start)
        for _, (down, across), _ in taps.taps(shape, kernel_shape, strides, padding)
    )


def _rows(x: jax.Array, part: tuple[slice, slice]) -> jax.Array:
    return x[:, part[0], part[1]].reshape(-1, x.shape[-1])


def forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """[B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    shape = (x.shape[0], *output_size(x.shape, kernel.shape, strides, padding))
    y = jnp.zeros((*shape, kernel.shape[-1]), jnp.float32)
    for place, outputs, inputs in taps.taps(x.shape, kernel.shape, strides, padding):
        product = (_rows(x, inputs) @ kernel[place]).astype(jnp.float32)
        y += taps.place(product, outputs, shape)
    return y.astype(x.dtype)


def input_gradient(
    dy: jax.Array, kernel: jax.Array, shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Gradient [B, h, w, N] of the outputs to that of the inputs, of the given shape."""
    dx = jnp.zeros(tuple(shape), jnp.float32)
    for place, outputs, inputs in taps.taps(shape, kernel.shape, strides, padding):
        product = (_rows(dy, outputs) @ kernel[place].T).astype(jnp.float32)
        dx += taps.place(product, inputs, (shape[0], shape[1], shape[2]))
    return dx.astype(dy.dtype)


def kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Inputs and gradient of the outputs to the gradient of the kernel, [kh, kw, C, N]."""
    height, width = kernel_shape[:2]
    gradients = {
        place: _rows(x, inputs).T @ _rows(dy, outputs)
        for place, outputs, inputs in taps.taps(x.shape, kernel_shape, strides, padding)
    }
    unseen = jnp.zeros(tuple(kernel_shape[2:]), dy.dtype)
    places = ((i, j) for i in range(height) for j in range(width))
    stacked = jnp.stack([gradients.get(place, unseen) for place in places])
    return stacked.reshape(tuple(kernel_shape))
