"""ResNets as torchvision has them: names and shapes of their tensors, and what they compute.

Written from torchvision's description, in PyTorch's layout, without a look at hybrid/.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BLOCKS = {
    'resnet18': ((2, 2, 2, 2), 'basic'),
    'resnet34': ((3, 4, 6, 3), 'basic'),
    'resnet50': ((3, 4, 6, 3), 'bottleneck'),
    'resnet101': ((3, 4, 23, 3), 'bottleneck'),
}


def _norm(name, channels):
    leaves = ('weight', 'bias', 'running_mean', 'running_var')
    return {f'{name}.{leaf}': (channels,) for leaf in leaves} | {f'{name}.num_batches_tracked': ()}


def shapes(sizes, kind, width=64):
    """{name of a tensor: shape} of a whole state_dict, the classifier included."""
    made = {'conv1.weight': (width, 3, 7, 7)} | _norm('bn1', width)
    inputs = width
    for stage, size in enumerate(sizes):
        planes = width * 2**stage
        outputs = planes * (4 if kind == 'bottleneck' else 1)
        for index in range(size):
            block = f'layer{stage + 1}.{index}'
            if kind == 'bottleneck':
                kernels = [(planes, inputs, 1), (planes, planes, 3), (outputs, planes, 1)]
            else:
                kernels = [(planes, inputs, 3), (planes, planes, 3)]
            for number, (n, c, side) in enumerate(kernels, start=1):
                made[f'{block}.conv{number}.weight'] = (n, c, side, side)
                made |= _norm(f'{block}.bn{number}', n)
            if index == 0 and (stage > 0 or inputs != outputs):
                made[f'{block}.downsample.0.weight'] = (outputs, inputs, 1, 1)
                made |= _norm(f'{block}.downsample.1', outputs)
            inputs = outputs
    return made | {'fc.weight': (1000, inputs), 'fc.bias': (1000,)}


def random_tensors(name, width=64, seed=0):
    """Tensors of one of the BLOCKS, or of (sizes, kind); no mean is 0, no variance or scale 1."""
    rng = np.random.default_rng(seed)
    made = {}
    sizes, kind = BLOCKS.get(name, name)
    for key, shape in shapes(sizes, kind, width).items():
        if key.endswith('num_batches_tracked'):
            made[key] = np.array(7, np.int64)
        elif len(shape) == 4:
            deviation = (2 / np.prod(shape[1:])) ** 0.5
            made[key] = (rng.standard_normal(shape) * deviation).astype(np.float32)
        elif key.endswith(('weight', 'running_var')) and len(shape) == 1:
            made[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            made[key] = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    return made


@functools.partial(jax.jit, static_argnums=(2, 3))
def forward(tensors, images, sizes, kind):
    """What the network makes of images [B, 3, H, W] before pooling: [B, C, h, w]."""

    def conv(x, key, stride):
        kernel = tensors[f'{key}.weight']
        pad = kernel.shape[-1] // 2
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=('NCHW', 'OIHW', 'NCHW'),
            precision='highest',
        )

    def norm(x, key):
        weight, bias, mean, var = (
            tensors[f'{key}.{leaf}'].reshape(-1, 1, 1)
            for leaf in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / jnp.sqrt(var + 1e-5) * weight + bias

    strided = 2 if kind == 'bottleneck' else 1  # which of the convolutions: v1.5
    x = jnp.maximum(norm(conv(images, 'conv1', 2), 'bn1'), 0)
    x = lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)]
    )
    for stage, size in enumerate(sizes):
        for index in range(size):
            block = f'layer{stage + 1}.{index}'
            stride = 2 if stage and not index else 1
            y, count = x, 3 if kind == 'bottleneck' else 2
            for number in range(1, count + 1):
                y = conv(y, f'{block}.conv{number}', stride if number == strided else 1)
                y = norm(y, f'{block}.bn{number}')
                y = jnp.maximum(y, 0) if number < count else y
            if f'{block}.downsample.0.weight' in tensors:
                x = norm(conv(x, f'{block}.downsample.0', stride), f'{block}.downsample.1')
            x = jnp.maximum(x + y, 0)
    return x
