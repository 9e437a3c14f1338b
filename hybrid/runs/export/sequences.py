"""The sequences of patches and the recurrent cell as ONNX."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from hybrid.models import recurrent, sequence
from hybrid.runs.export.encoders import Map, Tree
from hybrid.runs.export.graph import Graph

# In which order ONNX has the gates that `ops.cells` names so. Its LSTM calls g `c`; its GRU calls
# n `h`.
_GATES = {'lstm': 'iofg', 'gru': 'zrn'}


def patches(
    graph: Graph, module: sequence.Patches, params: Tree, name: str, maps: Sequence[Map]
) -> list[str]:
    """Writes what makes sequences of feature maps.

    Args:
      graph: Where it goes.
      module: That part of the network.
      params: Its parameters.
      name: What the names of its parameters begin with.
      maps: The feature maps, in `graph.dtype`.

    Returns:
      The sequences [T, B, C], float32.
    """
    values = []
    for x in maps:
        value = graph.cast(x.name, np.float32) if graph.half else x.name
        steps = x.height * x.width
        value = graph.op('Transpose', value, perm=[2, 3, 0, 1])
        value = graph.reshape(value, steps, -1, x.channels)
        raster = jnp.arange(steps).reshape(1, x.height, x.width, 1)
        places = np.asarray(sequence.to_sequence(raster, module.order)).ravel().tolist()
        if places != list(range(steps)):
            value = graph.op('Gather', value, graph.integers(*places), axis=0)
        values.append(value)
    if len(maps) == 1 or not module.features:
        return values
    for place, stage in enumerate(module.stages):
        kernel, bias, scale, shift = (
            graph.parameter(f'{name}.{part}.{leaf}', params[part][leaf])
            for part, leaf in (
                *((f'{stage}_projection', leaf) for leaf in ('kernel', 'bias')),
                *((f'{stage}_norm', leaf) for leaf in ('scale', 'bias')),
            )
        )
        value = graph.op('Add', graph.op('MatMul', values[place], kernel), bias)
        values[place] = graph.op(
            'LayerNormalization', value, scale, shift, axis=-1, epsilon=sequence.EPSILON
        )
    return [graph.op('Concat', *values, axis=0)]


def write(graph: Graph, module: recurrent.Recurrent, params: Tree, name: str, value: str) -> str:
    """Writes what makes features of a sequence.

    Args:
      graph: Where it goes.
      module: The recurrent part of the network.
      params: Its parameters.
      name: What the names of its parameters begin with.
      value: The sequence [T, B, C], float32.

    Returns:
      The features [B, F].
    """
    if module.cell == 'none':
        return _reduce(graph, module, params, name, value)
    if module.cell == 'dense':
        kernel, bias = (
            graph.parameter(f'{name}.dense.{leaf}', params['dense'][leaf])
            for leaf in ('kernel', 'bias')
        )
        value = graph.op('Tanh', graph.op('Add', graph.op('MatMul', value, kernel), bias))
        return _reduce(graph, module, params, name, value)
    directions = ['forward', *(['backward'] if module.bidirectional else [])]
    weights = [_direction(module.cell, params[one]) for one in directions]
    arrays = [
        graph.parameter(f'{name}.{part}', np.stack(arrays))
        for part, arrays in zip('WRB', zip(*weights, strict=True), strict=True)
    ]
    attributes = {'linear_before_reset': 1} if module.cell == 'gru' else {}
    outputs, last = graph.ops(
        module.cell.upper(),
        value,
        *arrays,
        outputs=2,
        hidden_size=module.features,
        direction='bidirectional' if module.bidirectional else 'forward',
        **attributes,
    )
    size = len(directions) * module.features
    # [T, directions, B, F], and the last states [directions, B, F].
    if module.reduce == 'last':
        return graph.reshape(graph.op('Transpose', last, perm=[1, 0, 2]), -1, size)
    outputs = graph.op('Transpose', outputs, perm=[0, 2, 1, 3])
    # 0 keeps the number of steps.
    return _reduce(graph, module, params, name, graph.reshape(outputs, 0, -1, size))


def _reduce(graph: Graph, module: recurrent.Recurrent, params: Tree, name: str, value: str) -> str:
    """Sums outputs [T, B, F] up over the sequence: [B, F]."""
    if module.reduce == 'max':
        return graph.op('ReduceMax', value, axes=[0], keepdims=0)
    if module.reduce == 'attention':
        kernel = graph.parameter(f'{name}.attention.kernel', params['attention']['kernel'])
        weights = graph.op('Softmax', graph.op('MatMul', value, kernel), axis=0)
        return graph.sum(graph.op('Mul', weights, value), 0)
    return graph.mean(value, 0)


def _direction(cell: str, params: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, R and B of ONNX for one direction: the kernels of inputs and of the state, and biases."""

    def join(part: str, leaf: str) -> np.ndarray:
        of_gates = []
        for gate in _GATES[cell]:
            gate_params = params[f'{part}{gate}']
            size = gate_params['kernel'].shape[1]
            of_gates.append(gate_params.get(leaf, np.zeros(size, np.float32)).T)
        return np.concatenate(of_gates)

    biases = np.concatenate([join('i', 'bias'), join('h', 'bias')])
    return join('i', 'kernel'), join('h', 'kernel'), biases
