"""Max-pooling of the stem, with a gradient that is fast on CPUs too."""

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
        taps = _taps(x)
        best = taps[0]
        for tap in taps[1:]:
            best = jnp.maximum(best, tap)
        return best

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


def _scatter(dy: jax.Array, place: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Brings gradients [B, h, w, C] to where the maxima were, in an array of the given shape.

    Windows overlap by one: an even row (of the padded input) is the first of one window and the
    last of the one before, an odd row the middle of one; so are the columns.
    """

    def interleave(parts: list[jax.Array], axis: int) -> jax.Array:
        first, middle, last = parts

        def pad(x, before):
            widths = [(0, 0)] * x.ndim
            widths[axis] = (before, 1 - before)
            return jnp.pad(x, widths)

        x = jnp.stack([pad(first, 0) + pad(last, 1), pad(middle, 0)], axis + 1)
        return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    zero = jnp.zeros((), dy.dtype)
    rows = []
    for i in range(_WINDOW):
        parts = [jnp.where(place == _WINDOW * i + j, dy, zero) for j in range(_WINDOW)]
        rows.append(interleave(parts, axis=2))
    x = interleave(rows, axis=1)
    return x[:, 1 : 1 + shape[1], 1 : 1 + shape[2]]
