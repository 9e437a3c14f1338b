"""The encoders efficientnet_lite0 to efficientnet_lite4: small CNNs of depthwise convolutions.

They are EfficientNets (Tan & Le, https://arxiv.org/abs/1905.11946) as Google's later `lite`
variants have them: ReLU6 instead of swish, no squeeze-and-excitation, and a stem and a head that
stay as narrow as in the smallest one. Padding is TensorFlow's 'SAME' and BatchNorm's constants are
those of the original, so its weights fit exactly.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from hybrid.models import encoders, staged
from hybrid.models.dropout import Dropout
from hybrid.ops import convolution, depthwise, normalization


class Stage(NamedTuple):
    """Blocks of one kind: the first has the stride, the others none.

    Attributes:
      repeats: Number of blocks.
      kernel_size: Of the depthwise convolution.
      stride: Of the first block.
      expansion: Times which a block's inputs are widened before the depthwise convolution.
      features: Channels of its outputs.
    """

    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    features: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
# Name -> how many times wider and deeper than the first.
SCALES = {
    'efficientnet_lite0': (1.0, 1.0),
    'efficientnet_lite1': (1.0, 1.1),
    'efficientnet_lite2': (1.1, 1.2),
    'efficientnet_lite3': (1.2, 1.4),
    'efficientnet_lite4': (1.4, 1.8),
}
# Of all of them.
STEM_FEATURES, HEAD_FEATURES = 32, 1280

Conv = functools.partial(
    convolution.Conv, kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
)
BatchNorm = functools.partial(normalization.BatchNorm, momentum=0.99, epsilon=1e-3)


def scale(width: float, depth: float) -> tuple[Stage, ...]:
    """The stages of a wider and deeper variant; first and last one are never deeper."""

    def channels(features: int) -> int:
        rounded = max(8, int(features * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * features * width else rounded

    last = len(LITE0) - 1
    return tuple(
        stage._replace(
            repeats=stage.repeats if n in (0, last) else math.ceil(depth * stage.repeats),
            features=channels(stage.features),
        )
        for n, stage in enumerate(LITE0)
    )


class MBConvBlock(staged.StageBlock):
    """Widens, filters each channel, narrows; the inputs are added where shapes allow that.

    An inverted residual (Sandler et al., https://arxiv.org/abs/1801.04381), whose shortcut is there
    only where the inputs are added. For its attributes see `Stage` and `StageBlock`.
    """

    features: int
    kernel_size: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        conv = functools.partial(Conv, kernel_size=(1, 1), dtype=self.dtype, kernels=self.kernels)
        norm = functools.partial(
            BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name
        )
        y = x
        if self.expansion != 1:
            y = conv(self.expansion * x.shape[-1], name='expand_conv')(y)
            y = nn.relu6(norm(name='expand_bn')(y))
        y = depthwise.DepthwiseConv(
            self.kernel_size,
            self.stride,
            dtype=self.dtype,
            kernels=self.kernels,
            name='depthwise_conv',
        )(y)
        y = nn.relu6(norm(name='depthwise_bn')(y))
        y = conv(self.features, name='project_conv')(y)
        y = norm(name='project_bn')(y)
        if x.shape != y.shape:
            return y
        return x + Dropout(self.drop_path, whole=True)(y, dropout_keys, train=True)


class EfficientNetLite(staged.StagedEncoder):
    """EfficientNet-Lite without pooling and classifier.

    Attributes:
      blocks: Its stages between stem and head.
      stem_features: Channels of the first convolution, 3x3 at stride 2.
      head_features: Channels of the last one, 1x1, which are those of the feature map.
      The others: See `StagedEncoder`.
    """

    blocks: Sequence[Stage]
    stem_features: int = STEM_FEATURES
    head_features: int = HEAD_FEATURES

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Maps images [B, H, W, 3] to a feature map [B, H / 32, W / 32, C], sizes rounded up.

        Or to those of the stages that are read.
        """
        conv = functools.partial(Conv, dtype=self.dtype, kernels=self.kernels)

        def norm(stage: int, name: str) -> nn.Module:
            return BatchNorm(
                use_running_average=not self.follows_batch(stage, train),
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=name,
            )

        down, across = (depthwise.same_padding(n, 3, 2) for n in images.shape[1:3])
        x = conv(self.stem_features, (3, 3), (2, 2), (down, across), name='conv_stem')(images)
        x = nn.relu6(norm(0, 'bn_stem')(x))
        stages = {
            f'stage{number}': [
                functools.partial(
                    MBConvBlock,
                    features=stage.features,
                    kernel_size=stage.kernel_size,
                    stride=stage.stride if index == 0 else 1,
                    expansion=stage.expansion,
                )
                for index in range(stage.repeats)
            ]
            for number, stage in enumerate(self.blocks, start=1)
        }
        maps = self.run_stages(x, stages, train=train, dropout_keys=dropout_keys)
        if not self.complete(maps):
            x = conv(self.head_features, (1, 1), name='conv_head')([*maps.values()][-1])
            maps['head'] = nn.relu6(norm(len(self.blocks) + 1, 'bn_head')(x))
        return self.select(maps)


_MODULES = {
    **{'conv_stem': '_conv_stem', 'bn_stem': '_bn0', 'conv_head': '_conv_head', 'bn_head': '_bn1'},
    **{'expand_conv': '_expand_conv', 'expand_bn': '_bn0'},
    **{'depthwise_conv': '_depthwise_conv', 'depthwise_bn': '_bn1'},
    **{'project_conv': '_project_conv', 'project_bn': '_bn2'},
}


def torch_name(path: Sequence[str], blocks: Sequence[Stage]) -> str:
    """The name that `efficientnet_lite_pytorch` has for a variable, which numbers all blocks.

    Args:
      path: Such as ('params', 'stage2_1', 'expand_bn', 'scale').
      blocks: The stages of the encoder.

    Returns:
      Such as '_blocks.2._bn0.weight'.
    """
    first = [0, *itertools.accumulate(stage.repeats for stage in blocks)]
    _, module, *rest = path
    if module in _MODULES:
        names = [_MODULES[module]]
    else:
        stage, index = map(int, module.removeprefix('stage').split('_'))
        names = ['_blocks', str(first[stage - 1] + index), _MODULES[rest[0]]]
    return '.'.join([*names, encoders.TORCH_LEAVES[path[-1]]])


def encoder(blocks: Sequence[Stage]) -> encoders.Encoder:
    """Describes an EfficientNet-Lite of these stages."""

    def create(settings: ConfigDict, **keywords: Any) -> EfficientNetLite:
        return EfficientNetLite(blocks, drop_path=settings.drop_path, **keywords)

    return encoders.Encoder(
        create=create,
        stages={
            'stem': 'conv_stem|bn_stem',
            **{f'stage{n}': rf'stage{n}_\d+' for n in range(1, len(blocks) + 1)},
            'head': 'conv_head|bn_head',
        },
        keys={'drop_path': 0.0},
        collections=(encoders.BATCH_STATS,),
        weights=encoders.Weights(
            described="efficientnet_lite_pytorch's (_conv_stem.weight, _blocks.0._bn1.weight, ...)",
            tensor_name=functools.partial(torch_name, blocks=blocks),
            part_of_encoder=r'(_conv_stem|_bn\d|_blocks|_conv_head)\.',
            # TensorFlow's were trained on images from -1 to 1.
            needs={'pretrained_normalization': 'symmetric'},
        ),
    )


for _name, _scale in SCALES.items():
    encoders.register(_name, encoder(scale(*_scale)))
