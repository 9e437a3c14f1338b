"""The hybrid of a CNN and an RNN: image to age and gender."""

from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from hybrid.models import heads, recurrent, resnet, sequence
from hybrid.models.dropout import Dropout
from hybrid.ops import convolution, kernels

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class Hybrid(nn.Module):
    """Encoder, patch sequence, recurrent cell, dropout, two heads.

    Attributes:
      encoder: images [B, H, W, 3] -> feature map [B, h, w, C].
      order: how the feature map is laid out as a sequence, see `sequence.to_sequence`.
      recurrent: sequence [B, T, C] -> features [B, F].
      dropout: of the features, keyed per example.
      age_head: features [B, F] -> its outputs, see `heads.Head`.
      gender_head: features [B, F] -> its outputs.
    """

    encoder: resnet.ResNet
    order: str
    recurrent: nn.Module
    dropout: nn.Module
    age_head: heads.Head
    gender_head: heads.Head

    def __call__(
        self, images: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> dict[str, Any]:
        """Estimates age and gender.

        Args:
          images: [B, H, W, 3] float, normalised.
          train: normalise by the batch and update 'batch_stats' (which must be mutable), and drop
            out; else use the running statistics.
          dropout_keys: [B] PRNG keys, one per example; needed in training with dropout.

        Returns:
          The outputs of the heads, float32, under their names: 'age' and 'gender'.
        """
        feature_map = self.encoder(images, train=train)
        features = self.recurrent(sequence.to_sequence(feature_map, self.order))
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
      config_model: `config.model`, see hybrid/default_config.py.
      axis_name: mapped axis over which BatchNorm is synced in training; None outside `pmap`.
      frozen_stages: see `resnet.ResNet`.
      frozen_statistics: see `resnet.ResNet`.

    Returns:
      A module with the variable collections 'params' and 'batch_stats'.

    Raises:
      ValueError: if a value is unknown or out of range; names the key and the choices.
    """
    c = config_model
    _check_choice('encoder.name', c.encoder.name, resnet.ENCODERS)
    _check_choice(
        'encoder.bottleneck_stride', c.encoder.bottleneck_stride, resnet.BOTTLENECK_STRIDES
    )
    _check_choice('encoder.stem', c.encoder.stem, resnet.STEMS)
    _check_choice('sequence.order', c.sequence.order, sequence.ORDERS)
    _check_choice('recurrent.cell', c.recurrent.cell, recurrent.CELLS)
    _check_choice('recurrent.reduce', c.recurrent.reduce, recurrent.REDUCTIONS)
    _check_choice('head.age', c.head.age, heads.AGE_HEADS)
    _check_choice('dtype', c.dtype, DTYPES)
    _check_choice('kernels', c.kernels, ('auto', *convolution.KERNELS))
    _check('encoder.width', c.encoder.width, c.encoder.width >= 1, 'at least 1')
    _check('recurrent.features', c.recurrent.features, c.recurrent.features >= 1, 'at least 1')
    _check('head.dropout', c.head.dropout, 0 <= c.head.dropout < 1, 'in [0, 1)')
    _check('head.hidden', c.head.hidden, c.head.hidden >= 0, '0 (no hidden layer) or more')
    _check('head.age_scale', c.head.age_scale, c.head.age_scale > 0, 'more than 0 years')

    dtype = DTYPES[c.dtype]
    of_head = heads.create_heads(c.head)
    stage_sizes, block = resnet.ENCODERS[c.encoder.name]
    return Hybrid(
        encoder=resnet.ResNet(
            stage_sizes=stage_sizes,
            block=block,
            width=c.encoder.width,
            bottleneck_stride=c.encoder.bottleneck_stride,
            stem=c.encoder.stem,
            zero_init_residual=c.encoder.zero_init_residual,
            dtype=dtype,
            axis_name=axis_name,
            frozen_stages=frozen_stages,
            frozen_statistics=frozen_statistics,
            kernels=kernels.resolve(c.kernels, c.dtype),
        ),
        order=c.sequence.order,
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
    )


def _check_choice(key: str, value: str, choices: Collection[str]) -> None:
    _check(key, value, value in choices, f'one of {", ".join(choices)}')


def _check(key: str, value: object, ok: bool, wanted: str) -> None:
    if not ok:
        raise ValueError(f'config.model.{key}={value!r} must be {wanted}')
