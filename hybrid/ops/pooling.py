"""Max-pooling of the stem, with a gradient that is fast on CPUs too."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

_WINDOW, _STRIDE = 3, 2


def xla_max_pool(x: jax.Array) -> jax.Array:
    """XLA's own: [B, H, W, C] to [B, h, w, C]."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    window, strides = (1, _WINDOW, _WINDOW, 1), (1, _STRIDE, _STRIDE, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows at stride 2, -inf around: [B, H, W, C] -> [B, h, w, C].

    The gradient goes to the first of equal maxima, row by row.
    """

    def on_cpu(x):
        if x.dtype == jnp.bfloat16:
            return _from_order(_maximum_by_axes(_order(x)))
        return functools.reduce(jnp.maximum, _taps(x))

    return lax.platform_dependent(x, cpu=on_cpu, default=xla_max_pool)


def _backward(x, dy):
    def on_cpu(x, dy):
        return _scatter(dy, _first_maximum(x), x.shape)

    def elsewhere(x, dy):
        return jax.vjp(xla_max_pool, x)[1](dy)[0]

    return (lax.platform_dependent(x, dy, cpu=on_cpu, default=elsewhere),)


max_pool.defvjp(lambda x: (max_pool(x), x), _backward)


def _taps(x: jax.Array) -> list[jax.Array]:
    """What each of the nine places of the windows sees, row by row: [B, h, w, C] each."""
    rows, columns = ((size - 1) // _STRIDE + 1 for size in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    last_row, last_column = _STRIDE * (rows - 1) + 1, _STRIDE * (columns - 1) + 1
    return [
        x[:, i : i + last_row : _STRIDE, j : j + last_column : _STRIDE]
        for i in range(_WINDOW)
        for j in range(_WINDOW)
    ]


def _first_maximum(x: jax.Array) -> jax.Array:
    """Which of the nine places is the first maximum of each window: uint8 [B, h, w, C]."""

    def one(x):
        taps = _taps(x)
        best, place = taps[0], jnp.zeros(taps[0].shape, jnp.uint8)
        for number, tap in enumerate(taps[1:], start=1):
            greater = tap > best
            best = jnp.where(greater, tap, best)
            place = jnp.where(greater, jnp.uint8(number), place)
        return place

    # A loop, two images at a time, because XLA does not fuse across its end: it would find the
    # places again for each of their nine uses.
    batch = x.shape[0]
    places = lax.map(one, x.reshape(-1, 2 - batch % 2, *x.shape[1:]))
    return places.reshape(batch, *places.shape[2:])


def _order(x: jax.Array) -> jax.Array:
    """Integers in the order of bfloat16: XLA has vector instructions for those on any CPU.

    What is not a number comes above all others, whatever its sign.
    """
    bits = lax.bitcast_convert_type(x, jnp.int16)
    minus_infinity = jnp.int16(-128)  # 0xff80; above it are only NaNs with a sign, and no sign
    return jnp.where(bits <= minus_infinity, bits ^ jnp.int16(0x7FFF), bits & jnp.int16(0x7FFF))


def _from_order(order: jax.Array) -> jax.Array:
    """The inverse of `_order`."""
    bits = jnp.where(order < 0, order ^ jnp.int16(0x7FFF), order)
    return lax.bitcast_convert_type(bits, jnp.bfloat16)


def _maximum_by_axes(x: jax.Array) -> jax.Array:
    """Maximum of integers over the windows, first down the rows, then across the columns."""
    for axis in (1, 2):
        last = _STRIDE * ((x.shape[axis] - 1) // _STRIDE) + 1
        widths = [(0, 0)] * x.ndim
        widths[axis] = (1, 1)
        x = jnp.pad(x, widths, constant_values=jnp.iinfo(x.dtype).min)
        taps = (lax.slice_in_dim(x, i, i + last, _STRIDE, axis) for i in range(_WINDOW))
        # Without the barrier XLA would compute the first half again for each use in the second.
        x = lax.optimization_barrier(functools.reduce(jnp.maximum, taps))
    return x


def _scatter(dy: jax.Array, place: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Brings gradients [B, h, w, C] to where the maxima were, in an array of the given shape.

    Windows overlap by one: an even row (of the padded input) is the first of one window and the
    last of the one before, an odd row the middle of one; so are the columns.
    """

    def shift(x, axis, before):
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, 1 - before)
        return jnp.pad(x, widths)

    def even_and_odd(parts, axis):
        first, middle, last = parts
        return shift(first, axis, 0) + shift(last, axis, 1), shift(middle, axis, 0)

    # In float32, and with barriers before and after: conversions in the midst of this are slow.
    dtype, dy = dy.dtype, lax.optimization_barrier(dy.astype(jnp.float32))
    zero = jnp.zeros((), dy.dtype)
    columns = []
    for i in range(_WINDOW):
        parts = [jnp.where(place == _WINDOW * i + j, dy, zero) for j in range(_WINDOW)]
        columns.append(even_and_odd(parts, axis=2))
    even, odd = zip(*columns, strict=True)
    rows = zip(even_and_odd(even, axis=1), even_and_odd(odd, axis=1), strict=True)
    x = jnp.stack([jnp.stack(parity, axis=3) for parity in rows], axis=2)
    x = x.reshape(shape[0], 2 * x.shape[1], 2 * x.shape[3], shape[3])
    return lax.optimization_barrier(x[:, 1 : 1 + shape[1], 1 : 1 + shape[2]]).astype(dtype)
