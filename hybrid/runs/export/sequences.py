"""The sequence of patches and the recurrent cell as ONNX."""

import jax.numpy as jnp
import numpy as np

from hybrid.models import recurrent, sequence
from hybrid.runs.export.encoders import Map, Tree
from hybrid.runs.export.graph import Graph

# In which order ONNX has the gates that `ops.cells` names so. Its LSTM calls g `c`; its GRU calls
# n `h`.
_GATES = {'lstm': 'iofg', 'gru': 'zrn'}


def write(
    graph: Graph, module: recurrent.Recurrent, order: str, params: Tree, name: str, x: Map
) -> tuple[str, int]:
    """Writes what makes features of a feature map.

    Args:
      graph: Where it goes.
      module: The recurrent part of the network.
      order: `config.model.sequence.order`.
      params: Of the recurrent part.
      name: What the names of its parameters begin with.
      x: The feature map, in `graph.dtype`.

    Returns:
      The features [B, F], float32, and F.
    """
    value = graph.cast(x.name, np.float32) if graph.half else x.name
    if module.cell == 'none':
        return graph.mean(value, 2, 3), x.channels
    steps = x.height * x.width
    # ONNX wants [T, B, C].
    value = graph.reshape(graph.op('Transpose', value, perm=[2, 3, 0, 1]), steps, -1, x.channels)
    raster = jnp.arange(steps).reshape(1, x.height, x.width, 1)
    places = np.asarray(sequence.to_sequence(raster, order)).ravel().tolist()
    if places != list(range(steps)):
        value = graph.op('Gather', value, graph.integers(*places), axis=0)
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
    # [T, directions, B, F], and the last states [directions, B, F].
    summary = graph.mean(outputs, 0) if module.reduce == 'mean' else last
    size = len(directions) * module.features
    return graph.reshape(graph.op('Transpose', summary, perm=[1, 0, 2]), -1, size), size


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
