"""Convolutions as a sum of matrix products, one a tap, over what of the map each tap sees.

Where a tap would see nothing but the zeros around the map, nothing is multiplied: on a map of 2x2
that leaves 16 of the 36 products of nine taps and four outputs. Kernels, most of the memory where
maps are this small, are read where they lie.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hybrid.models.im2col import Padding, Strides, output_size


class _Tap(NamedTuple):
    """A tap, the outputs in whose sum it stands, and the inputs that it sees for them."""

    place: tuple[int, int]
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def _along(size: int, outputs: int, tap: int, stride: int, before: int) -> tuple[slice, slice]:
    """Outputs and inputs of a tap on one axis, with `before` zeros in front."""
    first = max(0, -(-(before - tap) // stride))
    last = min(outputs - 1, (size - 1 + before - tap) // stride)
    start = stride * first + tap - before
    return (
        slice(first, last + 1),
        slice(start, start + stride * (last - first) + 1, stride),
    )


def _taps(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> Iterator[_Tap]:
    """Every tap that sees anything."""
    rows, columns = output_size(shape, kernel_shape, strides, padding)
    for i in range(kernel_shape[0]):
        down = _along(shape[1], rows, i, strides[0], padding[0][0])
        for j in range(kernel_shape[1]):
            across = _along(shape[2], columns, j, strides[1], padding[1][0])
            tap = _Tap((i, j), (down[0], across[0]), (down[1], across[1]))
            if all(s.start < s.stop for s in tap.outputs):
                yield tap


def count(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> int:
    """How many products of a tap and an input an image takes, for each pair of channels."""
    return sum(
        (down.stop - down.start) * (across.stop - across.start)
        for _, (down, across), _ in _taps(shape, kernel_shape, strides, padding)
    )


def _rows(x: jax.Array, part: tuple[slice, slice]) -> jax.Array:
    return x[:, part[0], part[1]].reshape(-1, x.shape[-1])


def _place(x: jax.Array, part: tuple[slice, slice], shape: tuple[int, int, int]) -> jax.Array:
    """Rows [B * h * w, C] into zeros [B, H, W, C], `shape` without C, where `part` says."""
    steps = [s.step or 1 for s in part]
    sizes = [len(range(s.start, s.stop, s.step or 1)) for s in part]
    config = [
        (s.start, length - s.start - step * (size - 1) - 1, step - 1)
        for s, step, size, length in zip(part, steps, sizes, shape[1:], strict=True)
    ]
    x = x.reshape(shape[0], *sizes, x.shape[-1])
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """[B, H, W, C] and [kh, kw, C, N] to [B, h, w, N]."""
    shape = (x.shape[0], *output_size(x.shape, kernel.shape, strides, padding))
    y = jnp.zeros((*shape, kernel.shape[-1]), x.dtype)
    for place, outputs, inputs in _taps(x.shape, kernel.shape, strides, padding):
        y += _place(_rows(x, inputs) @ kernel[place], outputs, shape)
    return y


def input_gradient(
    dy: jax.Array, kernel: jax.Array, shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Gradient [B, h, w, N] of the outputs to that of the inputs, of the given shape."""
    dx = jnp.zeros(shape, dy.dtype)
    for place, outputs, inputs in _taps(shape, kernel.shape, strides, padding):
        dx += _place(_rows(dy, outputs) @ kernel[place].T, inputs, (shape[0], shape[1], shape[2]))
    return dx


def kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> jax.Array:
    """Inputs and gradient of the outputs to the gradient of the kernel, [kh, kw, C, N]."""
    height, width = kernel_shape[:2]
    gradients = {
        place: _rows(x, inputs).T @ _rows(dy, outputs)
        for place, outputs, inputs in _taps(x.shape, kernel_shape, strides, padding)
    }
    unseen = jnp.zeros(tuple(kernel_shape[2:]), dy.dtype)
    places = ((i, j) for i in range(height) for j in range(width))
    stacked = jnp.stack([gradients.get(place, unseen) for place in places])
    return stacked.reshape(tuple(kernel_shape))
