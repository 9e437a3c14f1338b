"""Feature maps to a patch sequence, and the orders in which it can be scanned."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hybrid.ops import dense

ORDERS = ('raster', 'serpentine', 'column')
# Of the norm of projected patches.
EPSILON = 1e-6


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


class Patches(nn.Module):
    """The sequences of patches of one feature map, or of several.

    Several are joined into one sequence, one map after the other. For that the patches of each are
    projected to as many channels and normalised (Ba et al., https://arxiv.org/abs/1607.06450); the
    bias of the norm says of which map a patch is.

    Attributes:
      stages: names of the maps if there are several, after which their parameters are called.
      order: how each map is laid out, see `to_sequence`.
      features: channels of a sequence that is joined; 0 leaves the maps apart and as they are.
      dtype: of the projections.
    """

    stages: tuple[str, ...] = ()
    order: str = 'raster'
    features: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps M maps [B, h, w, C] to a sequence [B, T, features], to M of [B, h * w, C] if apart.

        One map alone is always left as it is.
        """
        sequences = [to_sequence(one, self.order) for one in maps]
        if len(sequences) == 1 or not self.features:
            return sequences
        for place, stage in enumerate(self.stages):
            project = dense.Dense(self.features, self.dtype, name=f'{stage}_projection')
            norm = nn.LayerNorm(epsilon=EPSILON, dtype=jnp.float32, name=f'{stage}_norm')
            sequences[place] = norm(project(sequences[place]))
        return [jnp.concatenate(sequences, axis=1)]
