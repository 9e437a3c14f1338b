"""The encoder dlib_resnet: the CNN of dlib's face recognition, which knows faces already.

Its weights learned to tell 7,485 people apart on about three million photographs, and are in the
public domain (https://github.com/davisking/dlib-models). `tools/convert_dlib_resnet.py` makes the
file of them that this encoder starts from.

It is a ResNet of 29 convolutions with half the channels of ResNet-34 and fewer layers. It differs
from torchvision's where the resolution is halved: convolutions and the max-pool have no padding
there, the shortcut is the mean of 2x2 positions, and the smaller of the two maps is filled up with
zeros, in positions and in channels.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hybrid.models import encoders, resnet, staged
from hybrid.models.dropout import Dropout
from hybrid.ops import pooling

# Of each stage: channels, number of blocks, stride of the first one.
STAGES = ((32, 3, 1), (64, 4, 2), (128, 3, 2), (256, 3, 2), (256, 1, 2))
# Pixels of a side that the weights were trained with.
SIZE = 150
# A name that only files of this encoder have.
_LAST = 'layer5.0.conv1.weight'


def valid_max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows at stride 2 without padding: [B, H, W, C] -> [B, h, w, C].

    The values must not be negative, as after ReLU.
    """
    rows, columns = ((size - 3) // 2 + 1 for size in x.shape[1:3])
    # One row and column of zeros before bring the windows of `max_pool` to where they begin here.
    x = pooling.max_pool(jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0))))
    return x[:, 1 : 1 + rows, 1 : 1 + columns]


def halve(x: jax.Array) -> jax.Array:
    """Mean of 2x2 positions at stride 2, the odd last ones left out: [B, H, W, C]."""
    rows, columns = (size // 2 * 2 for size in x.shape[1:3])
    taps = [x[:, i:rows:2, j:columns:2] for i in range(2) for j in range(2)]
    total = functools.reduce(jnp.add, (tap.astype(jnp.float32) for tap in taps))
    return (total / 4).astype(x.dtype)


def fill(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros behind the last position and the last channel, up to this shape [B, H, W, C]."""
    return jnp.pad(x, [(0, wanted - size) for size, wanted in zip(x.shape, shape, strict=True)])


def smallest_sides(stage_sizes: Sequence[tuple[int, int, int]]) -> dict[str, int]:
    """The least side in pixels of an image from which each stage can be computed, by its name."""
    smallest: dict[str, int] = {}
    side = 7
    while len(smallest) <= len(stage_sizes):
        positions = (side - 7) // 2 + 1
        for stage, stride in enumerate((2, *(stride for _, _, stride in stage_sizes))):
            if stride > 1 and positions < 3:
                break
            smallest.setdefault(f'layer{stage}' if stage else 'stem', side)
            if stage == 0:
                positions = (positions - 3) // 2 + 1
            elif stride > 1:
                positions = max((positions - 3) // 2 + 1, positions // 2)
        side += 1
    return smallest


class Block(staged.StageBlock):
    """Two 3x3 convolutions, each with its BatchNorm, and a shortcut around them."""

    features: int
    stride: int = 1
    zero_init_residual: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        norm = functools.partial(
            resnet.BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        conv = functools.partial(
            resnet.Conv, self.features, (3, 3), dtype=self.dtype, kernels=self.kernels
        )
        pad = (1, 1) if self.stride == 1 else (0, 0)
        y = conv(strides=(self.stride, self.stride), padding=(pad, pad), name='conv1')(x)
        y = nn.relu(norm(name='bn1')(y))
        y = conv(padding=((1, 1), (1, 1)), name='conv2')(y)
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        y = norm(scale_init=last_scale, name='bn2')(y)
        y = Dropout(self.drop_path, whole=True)(y, dropout_keys, train=True)
        if self.stride != 1:
            x = halve(x)
        shape = tuple(map(max, x.shape, y.shape))
        return nn.relu(fill(x, shape) + fill(y, shape))


class DlibResNet(staged.StagedEncoder):
    """The CNN of dlib's face recognition without pooling and the last layer.

    Attributes:
      stage_sizes: Of each stage the channels, the number of blocks, and the stride of the first
        one, 1 or 2. The stem has as many channels as the first stage.
      zero_init_residual: Start each block as its shortcut.
      The others: See `StagedEncoder`.
    """

    stage_sizes: Sequence[tuple[int, int, int]] = STAGES
    zero_init_residual: bool = True

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Maps images [B, H, W, 3] to a feature map [B, h, w, 256] in the compute dtype.

        Or to those of the stages that are read. From 150 pixels the stages have 35, 17, 8, 4 and 2
        positions a side. Images must not be smaller than `smallest_sides` says.
        """
        x = resnet.Conv(
            self.stage_sizes[0][0],
            (7, 7),
            (2, 2),
            padding=((0, 0), (0, 0)),
            dtype=self.dtype,
            kernels=self.kernels,
            name='conv1',
        )(images)
        x = resnet.BatchNorm(
            use_running_average=not self.follows_batch(0, train),
            dtype=self.dtype,
            axis_name=self.axis_name,
            name='bn1',
        )(x)
        stages = {
            f'layer{number}': [
                functools.partial(
                    Block,
                    features=features,
                    stride=stride if index == 0 else 1,
                    zero_init_residual=self.zero_init_residual,
                )
                for index in range(blocks)
            ]
            for number, (features, blocks, stride) in enumerate(self.stage_sizes, start=1)
        }
        x = valid_max_pool(nn.relu(x))
        return self.select(self.run_stages(x, stages, train=train, dropout_keys=dropout_keys))


def encoder(stage_sizes: Sequence[tuple[int, int, int]]) -> encoders.Encoder:
    """Describes the encoder with these stages, see `DlibResNet`."""

    def create(settings: ConfigDict, **keywords: Any) -> DlibResNet:
        return DlibResNet(
            stage_sizes=stage_sizes,
            zero_init_residual=settings.zero_init_residual,
            drop_path=settings.drop_path,
            **keywords,
        )

    return encoders.Encoder(
        create=create,
        stages={
            'stem': 'conv1|bn1',
            **{f'layer{n}': rf'layer{n}_\d+' for n in range(1, len(stage_sizes) + 1)},
        },
        keys={'zero_init_residual': True, 'drop_path': 0.0},
        collections=(encoders.BATCH_STATS,),
        weights=encoders.Weights(
            described='those that tools/convert_dlib_resnet.py writes (layer1.0.conv1.weight, ...)',
            tensor_name=resnet.torch_name,
            part_of_encoder=r'(conv1|bn1|layer\d+)\.',
            guess=lambda names: 'dlib_resnet' if _LAST in names else '',
        ),
        smallest=smallest_sides(stage_sizes),
    )


encoders.register('dlib_resnet', encoder(STAGES))
