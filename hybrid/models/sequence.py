"""Feature map to patch sequence, and the orders in which it can be scanned."""

import jax
import jax.numpy as jnp

ORDERS = ('raster', 'serpentine', 'column')


def to_sequence(feature_map: jax.Array, order: str = 'raster') -> jax.Array:
    """Lays the positions of a feature map out in a row.

    Args:
      feature_map: [B, h, w, C].
      order: 'raster' (row by row, left to right), 'serpentine' (every second row right to left, so
        that neighbours in the sequence are neighbours in the image) or 'column' (column by column,
        top to bottom).

    Returns:
      [B, h * w, C].

    Raises:
      ValueError: if the order is unknown.
    """
    if order == 'serpentine':
        feature_map = feature_map.at[:, 1::2].set(feature_map[:, 1::2, ::-1])
    elif order == 'column':
        feature_map = jnp.swapaxes(feature_map, 1, 2)
    elif order != 'raster':
        raise ValueError(f'unknown sequence order {order!r}; known: {", ".join(ORDERS)}')
    batch, height, width, channels = feature_map.shape
    return feature_map.reshape(batch, height * width, channels)
