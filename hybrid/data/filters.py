"""Blur, motion blur, resampling and sharpening: for each image a pair of matrices, S x S.

What is linear and separable is y = K_rows x K_columns^T, whatever the strength, so that one batched
product of matrices serves all of it. Convolutions with a kernel for each image are far slower.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def product(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> jax.Array:
    """The product of matrices in full float32, also where devices would take fewer bits by default.

    Which would be seen: as coefficients of JPEG that are rounded the other way, for instance.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def resampling(side: jax.Array, size: int) -> jax.Array:
    """Matrices [B, size, size] that shrink a line of pixels and magnify it again.

    Both by a triangle filter, which is widened in shrinking so that nothing aliases, as Pillow's
    BILINEAR and `jax.image.resize(method='linear')` do.

    Args:
      side: [B] to how many pixels, which are rounded; at least 1, `size` or more is the identity.
      size: How many pixels the line has.
    """
    side = jnp.clip(jnp.round(side), 1, size)[:, None, None]
    pixel = jnp.arange(size, dtype=jnp.float32)
    # The centres of the few pixels, on the scale of the many; those from `side` on are not used.
    centre = (pixel[None, :, None] + 0.5) * (size / side) - 0.5
    used = pixel[None, :, None] < side
    distance = jnp.abs(centre - pixel[None, None, :]) * (side / size)
    weights = jnp.maximum(1 - distance, 0)
    shrink = _rows_to_one(jnp.where(used, weights, 0))
    # The same weights the other way round: a triangle as wide as two of the few pixels.
    magnify = _rows_to_one(jnp.swapaxes(jnp.where(used, weights, 0), 1, 2))
    return product(magnify, shrink)


def gaussian(sigma: jax.Array, size: int) -> jax.Array:
    """Matrices [B, size, size] that blur a line by a Gaussian of `sigma` [B] pixels, 0 for none."""
    scale = 1 / jnp.maximum(sigma, 1e-3)[:, None, None]
    return _rows_to_one(jnp.exp(-0.5 * jnp.square(_distances(size) * scale)))


def box(length: jax.Array, size: int) -> jax.Array:
    """Matrices [B, size, size] of the mean over a path of `length` [B] pixels; up to 1 for none."""
    half = jnp.maximum(length, 1)[:, None, None] / 2
    return _rows_to_one(jnp.clip(half + 0.5 - _distances(size), 0, 1))


def _distances(size: int) -> jax.Array:
    pixel = jnp.arange(size, dtype=jnp.float32)
    return jnp.abs(pixel[:, None] - pixel[None, :])


def _rows_to_one(weights: jax.Array) -> jax.Array:
    """What lies beyond an edge is left out: the weights of the rest add up to 1."""
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), 1e-9)


def apply(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Multiplies each image by matrices, from both sides.

    Args:
      images: [B, S, S, C].
      rows: [B, S, S], what becomes of a column of pixels.
      columns: [B, S, S], what becomes of a row of pixels.

    Returns:
      Planes, [B, C, S, S].
    """
    count, size, _, channels = images.shape
    # Large products: one for each image, not one for each of its channels.
    down = product(rows, images.reshape(count, size, size * channels))
    planes = jnp.moveaxis(down.reshape(images.shape), 3, 1)
    along = product(planes.reshape(count, channels * size, size), jnp.swapaxes(columns, 1, 2))
    return along.reshape(planes.shape)


def filter_images(images: jax.Array, strengths: Mapping[str, jax.Array]) -> jax.Array:
    """Resamples, blurs or sharpens images.

    Args:
      images: [B, S, S, C] float32.
      strengths: Some of these, of which each image gets the first that is not 0: `resample` [B],
        the side in pixels to which an image is shrunk before it is magnified again; `motion_blur`
        [B, 2], the length of a path in pixels along a row and along a column, of which 1 is nothing
        either; `blur` [B], the standard deviation of a Gaussian in pixels. And `sharpen` [B]: where
        it is not 0, so much of the difference between an image and what that makes of it is added
        to the image (an unsharp mask), instead of taking what it makes of it.

    Returns:
      Planes [B, C, S, S], which sharpening can bring below 0 and above 1.
    """
    size = images.shape[1]
    planes = jnp.moveaxis(images, 3, 1)
    rows = columns = None
    if 'blur' in strengths:
        rows = columns = gaussian(strengths['blur'], size)
    if 'motion_blur' in strengths:
        length = strengths['motion_blur']
        moves = (length > 1).any(axis=1)
        rows = _where(moves, box(length[:, 1], size), rows)
        columns = _where(moves, box(length[:, 0], size), columns)
    if 'resample' in strengths:
        side = strengths['resample']
        matrix = resampling(jnp.where(side > 0, side, size), size)
        rows, columns = _where(side > 0, matrix, rows), _where(side > 0, matrix, columns)
    if rows is None or columns is None:
        return planes
    filtered = apply(images, rows, columns)
    if 'sharpen' not in strengths:
        return filtered
    amount = strengths['sharpen'][:, None, None, None]
    return jnp.where(amount > 0, planes + amount * (planes - filtered), filtered)


def _where(which: jax.Array, matrix: jax.Array, otherwise: jax.Array | None) -> jax.Array:
    return matrix if otherwise is None else jnp.where(which[:, None, None], matrix, otherwise)
