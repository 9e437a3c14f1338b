"""Encoders as ONNX: from images to the feature map, with BatchNorm folded into convolutions.

An encoder of one's own is exported once a function for its module is in `ENCODERS`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from hybrid.models import dlib_resnet, efficientnet, resnet
from hybrid.ops.depthwise import same_padding
from hybrid.ops.taps import Padding, output_size
from hybrid.runs.export.graph import Graph

# Nested dicts of arrays, as Flax has them.
Tree = Mapping[str, Any]


class Map(NamedTuple):
    """A feature map in a graph: the name of a value [B, C, H, W], and its sizes."""

    name: str
    channels: int
    height: int
    width: int


class Layers:
    """Writes the layers of one encoder.

    Args:
      graph: Where they go.
      variables: `params` and `batch_stats` of the encoder.
      name: What the names of its parameters begin with.
      epsilon: Of its BatchNorms.
    """

    def __init__(self, graph: Graph, variables: Tree, name: str, epsilon: float):
        self.graph = graph
        self.name = name
        self._params, self._stats = variables['params'], variables.get('batch_stats', {})
        self._epsilon = epsilon

    def block(self, name: str) -> 'Layers':
        """The layers of a block of the encoder."""
        variables = {'params': self._params[name], 'batch_stats': self._stats[name]}
        return Layers(self.graph, variables, f'{self.name}.{name}', self._epsilon)

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def conv(
        self, x: Map, name: str, norm: str, stride: int = 1, padding: Padding | None = None
    ) -> Map:
        """A convolution and the BatchNorm after it.

        Args:
          x: Its input.
          name: Of the convolution; a depthwise one is told by its kernel.
          norm: Of the BatchNorm.
          stride: Of both axes.
          padding: Zeros around both axes; by default half of the kernel's size.
        """
        kernel, of_norm, stats = (
            self._params[name]['kernel'],
            self._params[norm],
            self._stats[norm],
        )
        factor = of_norm['scale'] / np.sqrt(stats['var'] + np.float32(self._epsilon))
        weight = np.transpose(kernel * factor, (3, 2, 0, 1))
        bias = of_norm['bias'] - stats['mean'] * factor
        height, width = kernel.shape[:2]
        if padding is None:
            padding = ((height // 2, height // 2), (width // 2, width // 2))
        size = output_size((1, *x[2:], x.channels), kernel.shape, (stride, stride), padding)
        (top, bottom), (left, right) = padding
        dtype = self.graph.dtype
        value = self.graph.op(
            'Conv',
            x.name,
            self.graph.parameter(f'{self.name}.{name}.weight', weight, dtype),
            self.graph.parameter(f'{self.name}.{name}.bias', bias, dtype),
            kernel_shape=[height, width],
            strides=[stride, stride],
            pads=[top, left, bottom, right],
            group=x.channels // kernel.shape[2],
        )
        return Map(value, kernel.shape[3], *size)

    def apply(self, kind: str, x: Map, *inputs: str, **attributes: Any) -> Map:
        """An operation that changes no sizes."""
        return x._replace(name=self.graph.op(kind, x.name, *inputs, **attributes))

    def relu6(self, x: Map) -> Map:
        """From 0 to 6."""
        ends = (self.graph.constant(end, self.graph.dtype) for end in (0, 6))
        return self.apply('Clip', x, *ends)


def _resnet(module: resnet.ResNet, layers: Layers, x: Map) -> dict[str, Map]:
    _, stride, pooled = resnet.STEMS[module.stem]
    x = layers.apply('Relu', layers.conv(x, 'conv1', 'bn1', stride))
    if pooled:
        pooling = {'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1, 1, 1, 1]}
        size = output_size((1, *x[2:], 1), (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = Map(layers.graph.op('MaxPool', x.name, **pooling), x.channels, *size)
    bottleneck = module.block == 'bottleneck'
    maps = {'stem': x}
    for stage, blocks in enumerate(module.stage_sizes):
        if module.complete(maps):
            break
        for index in range(blocks):
            block = layers.block(f'layer{stage + 1}_{index}')
            stride = 2 if stage > 0 and index == 0 else 1
            strides = [stride, 1]
            if bottleneck:
                strides = [stride, 1, 1] if module.bottleneck_stride == '1x1' else [1, stride, 1]
            y = x
            for number, of_conv in enumerate(strides, start=1):
                y = block.conv(y, f'conv{number}', f'bn{number}', of_conv)
                if number < len(strides):
                    y = block.apply('Relu', y)
            if 'downsample_conv' in block:
                x = block.conv(x, 'downsample_conv', 'downsample_bn', stride)
            x = block.apply('Relu', block.apply('Add', y, x.name))
        maps[f'layer{stage + 1}'] = x
    return maps


def _efficientnet(module: efficientnet.EfficientNetLite, layers: Layers, x: Map) -> dict[str, Map]:
    def same(x: Map, size: int, stride: int) -> Padding:
        return same_padding(x.height, size, stride), same_padding(x.width, size, stride)

    x = layers.relu6(layers.conv(x, 'conv_stem', 'bn_stem', 2, same(x, 3, 2)))
    maps = {'stem': x}
    for number, stage in enumerate(module.blocks, start=1):
        if module.complete(maps):
            break
        for index in range(stage.repeats):
            block = layers.block(f'stage{number}_{index}')
            stride = stage.stride if index == 0 else 1
            y = x
            if 'expand_conv' in block:
                y = block.relu6(block.conv(y, 'expand_conv', 'expand_bn'))
            padding = same(y, stage.kernel_size, stride)
            y = block.relu6(block.conv(y, 'depthwise_conv', 'depthwise_bn', stride, padding))
            y = block.conv(y, 'project_conv', 'project_bn')
            x = block.apply('Add', y, x.name) if y[1:] == x[1:] else y
        maps[f'stage{number}'] = x
    if not module.complete(maps):
        maps['head'] = layers.relu6(layers.conv(x, 'conv_head', 'bn_head'))
    return maps


def _dlib_resnet(module: dlib_resnet.DlibResNet, layers: Layers, x: Map) -> dict[str, Map]:
    graph, unpadded = layers.graph, ((0, 0), (0, 0))

    def pool(kind: str, x: Map, size: int) -> Map:
        value = graph.op(kind, x.name, kernel_shape=[size, size], strides=[2, 2])
        return Map(value, x.channels, *output_size((1, *x[2:], 1), (size, size), (2, 2), unpadded))

    def fill(x: Map, *sizes: int) -> Map:
        if x[1:] == sizes:
            return x
        ends = (wanted - size for size, wanted in zip(x[1:], sizes, strict=True))
        return Map(graph.op('Pad', x.name, graph.integers(0, 0, 0, 0, 0, *ends)), *sizes)

    x = layers.apply('Relu', layers.conv(x, 'conv1', 'bn1', 2, unpadded))
    x = pool('MaxPool', x, 3)
    maps = {'stem': x}
    for stage, (_, blocks, first) in enumerate(module.stage_sizes, start=1):
        if module.complete(maps):
            break
        for index in range(blocks):
            block = layers.block(f'layer{stage}_{index}')
            stride = first if index == 0 else 1
            y = block.conv(x, 'conv1', 'bn1', stride, unpadded if stride > 1 else None)
            y = block.conv(block.apply('Relu', y), 'conv2', 'bn2')
            if stride > 1:
                x = pool('AveragePool', x, 2)
            sizes = list(map(max, x[1:], y[1:]))
            y = fill(y, *sizes)
            x = block.apply('Relu', block.apply('Add', y, fill(x, *sizes).name))
        maps[f'layer{stage}'] = x
    return maps


# The class of an encoder's module -> the function that writes it and gives the maps of its stages,
# from the image on, up to the last one that is read; and epsilon of its BatchNorms.
ENCODERS: dict[type[nn.Module], tuple[Callable[[Any, Layers, Map], dict[str, Map]], float]] = {
    resnet.ResNet: (_resnet, 1e-5),
    dlib_resnet.DlibResNet: (_dlib_resnet, 1e-5),
    efficientnet.EfficientNetLite: (_efficientnet, 1e-3),
}


def write(
    graph: Graph, module: nn.Module, variables: Tree, name: str, images: str, size: int
) -> list[Map]:
    """Writes an encoder.

    Args:
      graph: Where it goes.
      module: The encoder.
      variables: Its `params` and `batch_stats`.
      name: What the names of its parameters begin with.
      images: The value [B, 3, S, S] in `graph.dtype`.
      size: Side S.

    Returns:
      The maps that the module gives.

    Raises:
      ValueError: for an encoder that has no such function.
    """
    if type(module) not in ENCODERS:
        raise ValueError(
            f'the encoder {type(module).__name__} cannot be exported as ONNX: '
            'hybrid.runs.export.encoders.ENCODERS has no function for it'
        )
    function, epsilon = ENCODERS[type(module)]
    maps = function(module, Layers(graph, variables, name, epsilon), Map(images, 3, size, size))
    return [maps[stage] for stage in getattr(module, 'read', ()) or [*maps][-1:]]
