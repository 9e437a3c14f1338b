"""Which inputs each tap of a kernel sees, and for which outputs: what all forms are made from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def output_size(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> tuple[int, int]:
    """Height and width of what a convolution makes of [B, H, W, C]."""
    height, width = (
        (size + sum(pads) - taps) // stride + 1
        for size, pads, taps, stride in zip(
            shape[1:3], padding, kernel_shape[:2], strides, strict=True
        )
    )
    return height, width


class Tap(NamedTuple):
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


def taps(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Strides, padding: Padding
) -> Iterator[Tap]:
    """Every tap that sees anything."""
    rows, columns = output_size(shape, kernel_shape, strides, padding)
    for i in range(kernel_shape[0]):
        down = _along(shape[1], rows, i, strides[0], padding[0][0])
        for j in range(kernel_shape[1]):
            across = _along(shape[2], columns, j, strides[1], padding[1][0])
            tap = Tap((i, j), (down[0], across[0]), (down[1], across[1]))
            if all(s.start < s.stop for s in tap.outputs):
                yield tap


def place(x: jax.Array, part: tuple[slice, slice], shape: tuple[int, int, int]) -> jax.Array:
    """Rows [B * h * w, C] into zeros [B, H, W, C], `shape` without C, where `part` says."""
    steps = [s.step or 1 for s in part]
    sizes = [len(range(s.start, s.stop, s.step or 1)) for s in part]
    config = [
        (s.start, length - s.start - step * (size - 1) - 1, step - 1)
        for s, step, size, length in zip(part, steps, sizes, shape[1:], strict=True)
    ]
    x = x.reshape(shape[0], *sizes, x.shape[-1])
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
