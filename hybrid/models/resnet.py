"""ResNet encoder: image to feature map, layer by layer as torchvision has it.

Padding is explicit and symmetric, and modules carry torchvision's names (`layer1.0.conv1` is
`layer1_0/conv1`), so that weights trained there fit exactly.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

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

# Parts of an encoder, from the image on, as `stage_of` numbers them.
STAGES = ('stem', 'layer1', 'layer2', 'layer3', 'layer4')

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


def stage_of(module: str) -> int:
    """In which of the STAGES a module is: 0 for `conv1` and `bn1`, 3 for `layer3_1`."""
    return int(module[len('layer')]) if module.startswith('layer') else 0


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and -34); the first has the stride."""

    features: int
    stride: int = 1
    zero_init_residual: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    kernels: str = 'portable'

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        conv_ = functools.partial(conv, dtype=self.dtype, kernels=self.kernels)
        norm = functools.partial(
            BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name
        )
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones

        y = conv_(self.features, 3, self.stride, name='conv1')(x)
        y = nn.relu(norm(name='bn1')(y))
        y = conv_(self.features, 3, 1, name='conv2')(y)
        y = norm(scale_init=last_scale, name='bn2')(y)
        if x.shape != y.shape:
            x = conv_(self.features, 1, self.stride, name='downsample_conv')(x)
            x = norm(name='downsample_bn')(x)
        return nn.relu(x + y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (ResNet-50 and -101).

    Attributes:
      stride_in: the convolution that has the stride, one of the BOTTLENECK_STRIDES.
    """

    features: int
    stride: int = 1
    stride_in: str = '3x3'
    zero_init_residual: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    kernels: str = 'portable'

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, h, w, 4 * features]."""
        conv_ = functools.partial(conv, dtype=self.dtype, kernels=self.kernels)
        norm = functools.partial(
            BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name
        )
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones

        strides = (self.stride, 1) if self.stride_in == '1x1' else (1, self.stride)
        y = conv_(self.features, 1, strides[0], name='conv1')(x)
        y = nn.relu(norm(name='bn1')(y))
        y = conv_(self.features, 3, strides[1], name='conv2')(y)
        y = nn.relu(norm(name='bn2')(y))
        y = conv_(4 * self.features, 1, 1, name='conv3')(y)
        y = norm(scale_init=last_scale, name='bn3')(y)
        if x.shape != y.shape:
            x = conv_(4 * self.features, 1, self.stride, name='downsample_conv')(x)
            x = norm(name='downsample_bn')(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
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
      dtype: of the computation; parameters and BatchNorm statistics are float32.
      axis_name: mapped axis over which BatchNorm statistics are averaged in training.
      frozen_stages: so many of the STAGES, from the stem on, normalise by the running statistics in
        training too, and leave them as they are.
      frozen_statistics: all of them do.
      kernels: what convolutions take on CPUs, see `convolution`.
    """

    stage_sizes: Sequence[int]
    block: str = 'basic'
    width: int = 64
    bottleneck_stride: str = '3x3'
    stem: str = 'imagenet'
    zero_init_residual: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    frozen_stages: int = 0
    frozen_statistics: bool = False
    kernels: str = 'portable'

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, 3] to a feature map [B, h, w, C] in the compute dtype."""

        def follows_batch(stage: int) -> bool:
            return train and not self.frozen_statistics and stage >= self.frozen_stages

        kernel_size, stride, pooled = STEMS[self.stem]
        conv_ = functools.partial(conv, dtype=self.dtype, kernels=self.kernels)
        x = conv_(self.width, kernel_size, stride, name='conv1')(images)
        x = BatchNorm(
            use_running_average=not follows_batch(0),
            dtype=self.dtype,
            axis_name=self.axis_name,
            name='bn1',
        )(x)
        x = nn.relu(x)
        if pooled:
            x = pooling.max_pool(x)
        block: Callable[..., nn.Module] = BasicBlock
        if self.block == 'bottleneck':
            block = functools.partial(BottleneckBlock, stride_in=self.bottleneck_stride)
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = block(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    kernels=self.kernels,
                    name=f'layer{stage + 1}_{index}',
                )(x, train=follows_batch(stage + 1))
        return x
