"""The hybrid of a CNN and an RNN: image to age and gender."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from hybrid.models import encoders, heads, recurrent, sequence
from hybrid.models.dropout import Dropout
from hybrid.ops import kernels

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class Hybrid(nn.Module):
    """Encoder, patch sequence, recurrent cell, dropout, two heads.

    Attributes:
      encoder: images [B, H, W, 3] -> feature map [B, h, w, C], or several.
      patches: feature maps -> sequences [B, T, C].
      recurrent: sequence -> features [B, F]; of several sequences the features are joined.
      dropout: of the features, keyed per example.
      age_head: features [B, F] -> its outputs, see `heads.Head`.
      gender_head: features [B, F] -> its outputs.
      frozen_stages: how many of the encoder's stages, from the image on, do not learn.
    """

    encoder: nn.Module
    patches: sequence.Patches
    recurrent: nn.Module
    dropout: nn.Module
    age_head: heads.Head
    gender_head: heads.Head
    frozen_stages: int = 0

    def __call__(
        self, images: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> dict[str, Any]:
        """Estimates age and gender.

        Args:
          images: [B, H, W, 3] float, normalised.
          train: normalise by the batch and update 'batch_stats' (which must be mutable), and drop
            out; else use the running statistics.
          dropout_keys: [B] PRNG keys, one per example; needed in training with dropout, also of
            whole blocks of the encoder (drop path).

        Returns:
          The outputs of the heads, float32, under their names: 'age' and 'gender'.
        """
        drops = {'dropout_keys': dropout_keys} if getattr(self.encoder, 'drop_path', 0) else {}
        maps = self.encoder(images, train=train, **drops)
        sequences = self.patches(maps if isinstance(maps, tuple) else (maps,))
        features = jnp.concatenate([self.recurrent(one) for one in sequences], axis=-1)
        features = self.dropout(features, dropout_keys, train=train)
        return {'age': self.age_head(features), 'gender': self.gender_head(features)}


def create_model(
    config_model: ml_collections.ConfigDict,
    *,
    axis_name: str | None = 'batch',
    frozen_stages: int = 0,
    frozen_statistics: bool = False,
) -> Hybrid:
    """Builds the network that `config.model` describes.

    Args:
      config_model: `config.model`, as `config_checks.check_config` allows it.
      axis_name: mapped axis over which BatchNorm is synced in training; None outside `pmap`.
      frozen_stages: how many of the encoder's stages, from the image on, do not learn.
      frozen_statistics: see `encoders.create_module`.

    Returns:
      A module with the variable collection 'params' and those of its encoder.
    """
    c = config_model
    dtype = DTYPES[c.dtype]
    of_head = heads.create_heads(c.head)
    read = encoders.read_stages(c)
    # The CNN alone pools each map by itself, but attends to all of them at once.
    apart = c.recurrent.cell == 'none' and c.recurrent.reduce != 'attention'
    return Hybrid(
        encoder=encoders.create_module(
            c.encoder,
            read,
            dtype=dtype,
            axis_name=axis_name,
            frozen_stages=frozen_stages,
            frozen_statistics=frozen_statistics,
            kernels=kernels.resolve(c.kernels, c.dtype),
        ),
        patches=sequence.Patches(
            stages=read,
            order=c.sequence.order,
            features=0 if apart else c.recurrent.features,
            dtype=dtype,
        ),
        recurrent=recurrent.Recurrent(
            cell=c.recurrent.cell,
            features=c.recurrent.features,
            bidirectional=c.recurrent.bidirectional,
            reduce=c.recurrent.reduce,
            dtype=dtype,
        ),
        dropout=Dropout(c.head.dropout),
        age_head=of_head['age'],
        gender_head=of_head['gender'],
        frozen_stages=frozen_stages,
    )
