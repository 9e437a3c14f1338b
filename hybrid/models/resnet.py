"""The encoders resnet18 to resnet101: image to feature map, layer by layer as torchvision does it.

Padding is explicit and symmetric, and modules carry torchvision's names (`layer1.0.conv1` is
`layer1_0/conv1`), so weights that were trained there or in timm fit exactly.
"""

import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from hybrid.models import encoders, staged
from hybrid.models.dropout import Dropout
from hybrid.ops import convolution, normalization, pooling

# Name -> (blocks per stage, kind of block).
ENCODERS: dict[str, tuple[tuple[int, ...], str]] = {
    'resnet18': ((2, 2, 2, 2), 'basic'),
    'resnet34': ((3, 4, 6, 3), 'basic'),
    'resnet50': ((3, 4, 6, 3), 'bottleneck'),
    'resnet101': ((3, 4, 23, 3), 'bottleneck'),
}

# Name -> (kernel size of the first convolution, its stride, whether a max-pool follows).
STEMS: dict[str, tuple[int, int, bool]] = {
    'imagenet': (7, 2, True),
    'medium': (3, 2, False),
    'small': (3, 1, False),
}

# Which convolution of a bottleneck has the stride: the first 1x1 (v1, He et al.'s own weights and
# their ports) or the 3x3 (v1.5, torchvision's and timm's weights).
BOTTLENECK_STRIDES = ('1x1', '3x3')

# Stage, from the image on -> its modules.
STAGES = {'stem': 'conv1|bn1', **{f'layer{n}': rf'layer{n}_\d+' for n in range(1, 5)}}

Conv = functools.partial(
    convolution.Conv, kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
)
BatchNorm = functools.partial(normalization.BatchNorm, momentum=0.9, epsilon=1e-5)


def conv(
    features: int,
    kernel_size: int,
    stride: int,
    *,
    dtype: DTypeLike,
    kernels: str = 'portable',
    name: str,
) -> nn.Module:
    """Square convolution [B, H, W, C] -> [B, h, w, features] with `kernel_size // 2` zeros around.

    'SAME' would pad even sizes on one side only where the stride is 2, unlike PyTorch.
    """
    pad = kernel_size // 2
    return Conv(
        features,
        (kernel_size, kernel_size),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        dtype=dtype,
        kernels=kernels,
        name=name,
    )


class Block(staged.StageBlock):
    """Convolutions, each with its BatchNorm, and a shortcut around them.

    Attributes:
      kind: 'basic', two 3x3 (ResNet-18 and -34), or 'bottleneck', 1x1, 3x3, and 1x1 with four
        times the features (ResNet-50 and -101).
      stride_in: the convolution of a bottleneck that has the stride, one of the
        BOTTLENECK_STRIDES; of a basic block it is the first one.
      The others: see `StageBlock`.
    """

    kind: str
    features: int
    stride: int = 1
    stride_in: str = '3x3'
    zero_init_residual: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features], of a bottleneck to 4 * features."""
        conv_ = functools.partial(conv, dtype=self.dtype, kernels=self.kernels)
        norm = functools.partial(
            BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name
        )
        # Of each convolution: features, kernel size, stride.
        if self.kind == 'basic':
            layers = [(self.features, 3, self.stride), (self.features, 3, 1)]
        else:
            strides = (self.stride, 1) if self.stride_in == '1x1' else (1, self.stride)
            layers = [
                (self.features, 1, strides[0]),
                (self.features, 3, strides[1]),
                (4 * self.features, 1, 1),
            ]
        y = x
        for number, layer in enumerate(layers[:-1], start=1):
            y = conv_(*layer, name=f'conv{number}')(y)
            y = nn.relu(norm(name=f'bn{number}')(y))
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        y = conv_(*layers[-1], name=f'conv{len(layers)}')(y)
        y = norm(scale_init=last_scale, name=f'bn{len(layers)}')(y)
        if x.shape != y.shape:
            x = conv_(layers[-1][0], 1, self.stride, name='downsample_conv')(x)
            x = norm(name='downsample_bn')(x)
        y = Dropout(self.drop_path, whole=True)(y, dropout_keys, train=True)
        return nn.relu(x + y)


class ResNet(staged.StagedEncoder):
    """ResNet without pooling and classifier (He et al., https://arxiv.org/abs/1512.03385).

    Attributes:
      stage_sizes: blocks per stage; each stage after the first halves the resolution.
      block: 'basic' or 'bottleneck'.
      width: channels of the first stage, doubled at each next one (bottleneck: times 4).
      bottleneck_stride: the convolution of a bottleneck that has the stride: '1x1' (v1), '3x3'
        (v1.5).
      stem: 'imagenet' (7x7 stride 2, max-pool), 'medium' (3x3 stride 2) or 'small' (3x3 stride 1).
      zero_init_residual: start each block as the identity (Goyal et al.,
        https://arxiv.org/abs/1706.02677).
      The others: see `StagedEncoder`.
    """

    stage_sizes: Sequence[int]
    block: str = 'basic'
    width: int = 64
    bottleneck_stride: str = '3x3'
    stem: str = 'imagenet'
    zero_init_residual: bool = True

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Maps images [B, H, W, 3] to a feature map [B, h, w, C] in the compute dtype.

        Or to those of the stages that are read.
        """
        kernel_size, stride, pooled = STEMS[self.stem]
        conv_ = functools.partial(conv, dtype=self.dtype, kernels=self.kernels)
        x = conv_(self.width, kernel_size, stride, name='conv1')(images)
        x = BatchNorm(
            use_running_average=not self.follows_batch(0, train),
            dtype=self.dtype,
            axis_name=self.axis_name,
            name='bn1',
        )(x)
        x = nn.relu(x)
        if pooled:
            x = pooling.max_pool(x)
        stages = {
            f'layer{number}': [
                functools.partial(
                    Block,
                    kind=self.block,
                    features=self.width * 2 ** (number - 1),
                    stride=2 if number > 1 and index == 0 else 1,
                    stride_in=self.bottleneck_stride,
                    zero_init_residual=self.zero_init_residual,
                )
                for index in range(size)
            ]
            for number, size in enumerate(self.stage_sizes, start=1)
        }
        return self.select(self.run_stages(x, stages, train=train, dropout_keys=dropout_keys))


_SHORTCUT = {'downsample_conv': 'downsample.0', 'downsample_bn': 'downsample.1'}


def torch_name(path: Sequence[str]) -> str:
    """The name that torchvision and timm have for a variable of a ResNet.

    Args:
      path: Such as ('params', 'layer2_0', 'downsample_conv', 'kernel').

    Returns:
      Such as 'layer2.0.downsample.0.weight'.
    """
    _, *modules, leaf = path
    names = [_SHORTCUT.get(name, name.replace('_', '.')) for name in modules]
    return '.'.join([*names, encoders.TORCH_LEAVES[leaf]])


def _guess(names: Collection[str]) -> str:
    """The encoder that has as many blocks as there are in a file of these names."""
    blocks = {m.groups() for n in names if (m := re.match(r'layer([1-4])\.(\d+)\.conv1', n))}
    sizes = tuple(sum(stage == str(number) for stage, _ in blocks) for number in range(1, 5))
    kind = 'bottleneck' if 'layer1.0.conv3.weight' in names else 'basic'
    return next((name for name, encoder in ENCODERS.items() if encoder == (sizes, kind)), '')


_WEIGHTS = encoders.Weights(
    described="torchvision's of a ResNet (conv1.weight, layer1.0.conv1.weight, ...)",
    tensor_name=torch_name,
    # Such as of timm's resnet18d, of an SE-ResNet, of an anti-aliased one.
    part_of_encoder=r'(conv1|bn1|norm1|stem|maxpool|layer\d+)\.',
    needs={'width': 64, 'stem': 'imagenet'},
    guess=_guess,
)


def encoder(stage_sizes: Sequence[int], block: str) -> encoders.Encoder:
    """Describes a ResNet with so many blocks of a kind, 'basic' or 'bottleneck', in its stages."""

    def create(settings: ConfigDict, **keywords: Any) -> ResNet:
        return ResNet(
            stage_sizes=stage_sizes,
            block=block,
            width=settings.width,
            bottleneck_stride=settings.bottleneck_stride,
            stem=settings.stem,
            zero_init_residual=settings.zero_init_residual,
            drop_path=settings.drop_path,
            **keywords,
        )

    return encoders.Encoder(
        create=create,
        stages=STAGES,
        keys={
            'width': 64,
            'bottleneck_stride': '3x3',
            'stem': 'imagenet',
            'zero_init_residual': True,
            'drop_path': 0.0,
        },
        meaning=('bottleneck_stride', 'stem'),
        collections=(encoders.BATCH_STATS,),
        weights=_WEIGHTS,
    )


for _name, _described in ENCODERS.items():
    encoders.register(_name, encoder(*_described))
