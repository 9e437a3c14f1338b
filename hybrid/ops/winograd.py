"""3x3 convolutions at stride 1 by Winograd's minimal filtering, as batched matrix products.

F(m, 3) makes m outputs of a row from m + 2 inputs with m + 2 multiplications instead of 3 m: for
m = 4 in both directions a quarter of the arithmetic (Lavin & Gray,
https://arxiv.org/abs/1509.09308). The transforms are additions of slices, which XLA fuses; what
remains is one matrix product for each of the (m + 2)^2 places of a tile.

The three passes of a convolution are three products between transformed inputs V, kernels U and
outputs' gradients D: V U, D U^T and V^T D. Gradients use the exact transposes of the transforms.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

# Where the polynomials are evaluated, besides infinity. With 1/2 and -2, rather than 2 and -2, the
# rounding errors of F(4, 3) are about half: against float64, in NumPy, 64 to 512 channels, 1.0e-6
# to 1.2e-6 of the largest output, not 2.3e-6 to 2.9e-6.
_POINTS = {2: (0, 1, -1), 3: (0, 1, -1, 2), 4: (0, 1, -1, Fraction(1, 2), -2)}
TAPS = 3


def tile_size(length: int, dtype: DTypeLike = jnp.float32) -> int:
    """The outputs m of a tile with which a row of `length` takes the fewest multiplications.

    In bfloat16 it is always 2, with which results err by 0.6 % of their norm; with 3 or 4, whose
    transforms have larger numbers, they would by 2 to 3 %.
    """
    if jnp.dtype(dtype) == jnp.bfloat16:
        return 2
    return min(_POINTS, key=lambda m: ((m + TAPS - 1) * -(-length // m), -m))


def count(height: int, width: int, dtype: DTypeLike = jnp.float32) -> tuple[int, int]:
    """How many places a tile has, and how many tiles cover a map of the given size."""
    m, k = tile_size(height, dtype), tile_size(width, dtype)
    return (m + TAPS - 1) * (k + TAPS - 1), -(-height // m) * -(-width // k)


@functools.cache
def matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom-Cook matrices of F(m, 3).

    Returns:
      A [m, n], G [n, 3] and B [n, n], n = m + 2, such that the valid correlation of a row d [n]
      with a filter g [3] is A @ ((G @ g) * (B @ d)).
    """
    points = [Fraction(point) for point in _POINTS[m]]

    def polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
        """Coefficients of prod (x - root), the constant first."""
        coefficients = [Fraction(1)]
        for root in roots:
            shifted = [Fraction(0), *coefficients]
            scaled = [*(root * c for c in coefficients), Fraction(0)]
            coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
        return coefficients

    inputs, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        row = [*polynomial(others), Fraction(0)]
        # A row of B may be scaled if the row of G makes up for it; a power of two rounds nothing.
        power = Fraction(2) ** round(float(np.log2(float(max(abs(c) for c in row)))))
        inputs.append([c / power for c in row])
        filters.append([point**j / scale * power for j in range(TAPS)])
    inputs.append(polynomial(points))
    filters.append([Fraction(int(j == TAPS - 1)) for j in range(TAPS)])
    outputs = [[*(point**i for point in points), Fraction(int(i == m - 1))] for i in range(m)]
    a, g, b = (np.array(rows, float) for rows in (outputs, filters, inputs))
    return a, g, b


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Rows of a matrix times arrays: additions, without the zeros and the ones."""
    combined = []
    for row in matrix:
        total = None
        for coefficient, part in zip(row, parts, strict=True):
            if coefficient == 0:
                continue
            term = part if abs(coefficient) == 1 else abs(float(coefficient)) * part
            if total is None:
                total = term if coefficient > 0 else -term
            else:
                total = total + term if coefficient > 0 else total - term
        assert total is not None
        combined.append(total)
    return combined


def _tiles(x: jax.Array) -> tuple[int, int, int, int]:
    """Tile sizes and numbers of tiles for a map [B, H, W, C]."""
    m, k = tile_size(x.shape[1], x.dtype), tile_size(x.shape[2], x.dtype)
    return m, k, -(-x.shape[1] // m), -(-x.shape[2] // k)


def transform_input(x: jax.Array) -> jax.Array:
    """Inputs [B, H, W, C] to V [places, B * tiles, C]."""
    batch, height, width, channels = x.shape
    m, k, rows, columns = _tiles(x)
    x = jnp.pad(x, ((0, 0), (1, 1 + m * rows - height), (1, 1 + k * columns - width), (0, 0)))
    parts = [x[:, i : i + m * (rows - 1) + 1 : m] for i in range(m + 2)]
    # Without the barrier XLA would compute the first half again for each use in the second.
    x = lax.optimization_barrier(jnp.stack(_combine(matrices(m)[2], parts)))
    parts = [x[:, :, :, i : i + k * (columns - 1) + 1 : k] for i in range(k + 2)]
    x = jnp.stack(_combine(matrices(k)[2], parts))
    return x.reshape(-1, batch * rows * columns, channels)


def transpose_transform_input(v: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The transpose of `transform_input`: V's gradient to that of inputs of the given shape."""
    batch, height, width, channels = shape
    m, k = tile_size(height, v.dtype), tile_size(width, v.dtype)
    rows, columns = -(-height // m), -(-width // k)
    v = v.reshape(k + 2, m + 2, batch, rows, columns, channels)
    v = lax.optimization_barrier(_overlap(_combine(matrices(k)[2].T, list(v)), k, 3))
    v = _overlap(_combine(matrices(m)[2].T, list(v)), m, 1)
    return v[:, 1 : 1 + height, 1 : 1 + width]


def _overlap(parts: Sequence[jax.Array], m: int, axis: int) -> jax.Array:
    """Adds up tiles that overlap by two: m + 2 arrays [.., T, ..] to one [.., (T + 1) * m, ..]."""

    def pad(x, before):
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, 1 - before)
        return jnp.pad(x, widths)

    places = [pad(parts[i], 0) for i in range(m)]
    places[:2] = [places[i] + pad(parts[m + i], 1) for i in range(2)]
    x = jnp.stack(places, axis + 1)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def transform_kernel(kernel: jax.Array, height: int, width: int) -> jax.Array:
    """Kernels [3, 3, C, N] to U [places, C, N], for maps of the given size."""
    g, h = (matrices(tile_size(length, kernel.dtype))[1] for length in (height, width))
    u = jnp.stack(_combine(g, list(kernel)))
    u = jnp.stack(_combine(h, [u[:, j] for j in range(TAPS)]))
    return u.reshape(-1, *kernel.shape[2:])


def transpose_transform_kernel(u: jax.Array, height: int, width: int) -> jax.Array:
    """The transpose of `transform_kernel`: U's gradient [places, C, N] to the kernel's."""
    g, h = (matrices(tile_size(length, u.dtype))[1] for length in (height, width))
    u = u.reshape(len(h), len(g), *u.shape[1:])
    u = jnp.stack(_combine(h.T, list(u)), 1)
    return jnp.stack(_combine(g.T, list(u)))


def transform_output(y: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Products [places, B * tiles, N] to outputs [B, H, W, N], `shape`."""
    batch, height, width, features = shape
    m, k = tile_size(height, y.dtype), tile_size(width, y.dtype)
    rows, columns = -(-height // m), -(-width // k)
    y = y.reshape(k + 2, m + 2, batch, rows, columns, features)
    y = lax.optimization_barrier(jnp.stack(_combine(matrices(k)[0], list(y)), -2))
    y = jnp.stack(_combine(matrices(m)[0], list(y)), 2)
    return y.reshape(batch, rows * m, columns * k, features)[:, :height, :width]


def transpose_transform_output(dy: jax.Array) -> jax.Array:
    """The transpose of `transform_output`: outputs' gradient [B, H, W, N] to D."""
    batch, height, width, features = dy.shape
    m, k, rows, columns = _tiles(dy)
    dy = jnp.pad(dy, ((0, 0), (0, m * rows - height), (0, k * columns - width), (0, 0)))
    dy = dy.reshape(batch, rows, m, columns, k, features)
    d = jnp.stack(_combine(matrices(m)[0].T, [dy[:, :, i] for i in range(m)]))
    d = lax.optimization_barrier(d)
    d = jnp.stack(_combine(matrices(k)[0].T, [d[:, :, :, :, i] for i in range(k)]))
    return d.reshape(-1, batch * rows * columns, features)


def _product(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((0,), (0,))))


def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] and [3, 3, C, N] to [B, H, W, N], with one zero around."""
    batch, height, width, _ = x.shape
    v, u = transform_input(x), transform_kernel(kernel, height, width)
    return transform_output(_product(v, u, (2, 1)), (batch, height, width, kernel.shape[-1]))


def input_gradient(dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gradient [B, H, W, N] of the outputs to that of the inputs, [B, H, W, C]."""
    batch, height, width, _ = dy.shape
    d, u = transpose_transform_output(dy), transform_kernel(kernel, height, width)
    return transpose_transform_input(
        _product(d, u, (2, 2)), (batch, height, width, kernel.shape[2])
    )


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Inputs and gradient of the outputs to the gradient of the kernel, [3, 3, C, N]."""
    products = _product(transform_input(x), transpose_transform_output(dy), (1, 1))
    return transpose_transform_kernel(products, x.shape[1], x.shape[2])
