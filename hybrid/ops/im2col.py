"""Convolutions as one matrix product over gathered patches (im2col), a few images at a time.

A slice of the batch whose patches stay in the cache is gathered, multiplied and left behind before
the next one: all patches at once would cost more in memory traffic than the products themselves.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from hybrid.ops.taps import Padding, Strides, output_size

# Bytes of patches gathered at a time; measured best between 2 and 5 MB where the cache holds 32.
_CHUNK_BYTES = 4 << 20


def patches(
    x: jax.Array, kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """[B, H, W, C] to [B, h, w, kh * kw * C], what each output sees."""
    rows, columns = output_size(x.shape, kernel_shape, strides, padding)
    height, width = kernel_shape[:2]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    last_row, last_column = strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1
    # Row by row: fewer and longer pieces are copied than tap by tap.
    x = jnp.concatenate([x[:, :, j : j + last_column : strides[1]] for j in range(width)], axis=-1)
    if width > 1:
        x = lax.optimization_barrier(x)
    x = jnp.concatenate([x[:, i : i + last_row : strides[0]] for i in range(height)], axis=-1)
    return lax.optimization_barrier(x)


def num_chunks(batch: int, outputs: int, kernel_shape: Sequence[int], itemsize: int = 4) -> int:
    """The fewest equal slices of a batch whose patches keep within _CHUNK_BYTES.

    Args:
      batch: Images.
      outputs: Positions of the output, each with a patch, of one image.
      kernel_shape: [kh, kw, C, N]; patches of a 1x1 kernel are the input itself, in one.
      itemsize: Bytes of a number.
    """
    if tuple(kernel_shape[:2]) == (1, 1):
        return 1
    image_bytes = itemsize * outputs * math.prod(kernel_shape[:3])
    wanted = max(1, min(batch, -(-batch * image_bytes // _CHUNK_BYTES)))
    return next(n for n in range(wanted, batch + 1) if batch % n == 0)


def _chunked(x, kernel_shape, strides, padding, *arrays):
    rows, columns = output_size(x.shape, kernel_shape, strides, padding)
    n = num_chunks(x.shape[0], rows * columns, kernel_shape, x.dtype.itemsize)
    return n, tuple(a.reshape(n, a.shape[0] // n, *a.shape[1:]) for a in (x, *arrays))


def forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """[B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def apply(x):
        p = patches(x, kernel.shape, strides, padding)
        return (p.reshape(-1, p.shape[-1]) @ matrix).reshape(*p.shape[:3], -1)

    n, (chunks,) = _chunked(x, kernel.shape, strides, padding)
    if n == 1:
        return apply(x)
    y = lax.map(apply, chunks)
    return y.reshape(-1, *y.shape[2:])


def kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Inputs and gradient of the outputs to the gradient of the kernel, [kh, kw, C, N]."""

    def apply(x, dy):
        p = patches(x, kernel_shape, strides, padding)
        return p.reshape(-1, p.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])

    n, chunks = _chunked(x, kernel_shape, strides, padding, dy)
    if n == 1:
        total = apply(x, dy)
    else:
        zeros = jnp.zeros((math.prod(kernel_shape[:3]), kernel_shape[3]), jnp.float32)
        total, _ = lax.scan(lambda sum_, c: (sum_ + apply(*c), None), zeros, chunks)
    return total.reshape(tuple(kernel_shape)).astype(dy.dtype)
