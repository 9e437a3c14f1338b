"""Writes ONNX: nodes, constants and parameters of a graph, and a check of the whole."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# The oldest that has all that is needed here, and what every onnxruntime since 2022 reads.
OPSET, IR_VERSION = 17, 8


class Graph:
    """A graph that is being written. Values are known by their names.

    Args:
      half: Whether parameters are stored in float16, and the encoder computes in it.
    """

    def __init__(self, half: bool = False):
        self.half = half
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    @property
    def dtype(self) -> type[np.floating]:
        """What the encoder computes in."""
        return np.float16 if self.half else np.float32

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, whose name it returns; '' is an input that is left out."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs."""
        number = len(self._nodes)
        names = [f'{kind}_{number}' + (f'_{k}' if k else '') for k in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, f'node_{number}', **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant; equal ones are one."""
        array = np.asarray(value, dtype)
        described = f'{array.dtype} {array.shape}'.encode() + array.tobytes()
        return self._store(f'constant_{hashlib.sha256(described).hexdigest()[:16]}', array)

    def integers(self, *values: int) -> str:
        """A constant int64 [N], as shapes and axes are given."""
        return self._store(f'integers_{"_".join(map(str, values))}', np.array(values, np.int64))

    def parameter(self, name: str, value: np.ndarray, dtype: Any = np.float32) -> str:
        """A learned array, known by its name, for a computation in a dtype.

        Raises:
          OverflowError: when float16 cannot hold it.
        """
        if not self.half:
            return self._store(name, value.astype(np.float32))
        with np.errstate(over='ignore'):
            stored = value.astype(np.float16)
        if not np.isfinite(stored).all():
            raise OverflowError(f'{name} has numbers that are too large for float16')
        self._store(name, stored)
        return name if dtype == np.float16 else self.cast(name, dtype)

    def cast(self, value: str, dtype: Any) -> str:
        """The same numbers in another dtype."""
        return self.op('Cast', value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, *shape: int) -> str:
        """One of the sizes may be -1."""
        return self.op('Reshape', value, self.integers(*shape))

    def slice(self, value: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """A part along an axis."""
        places = (start, end, axis, step)
        return self.op('Slice', value, *(self.integers(place) for place in places))

    def mean(self, value: str, *axes: int, keepdims: bool = False) -> str:
        """The mean over axes."""
        return self.op('ReduceMean', value, axes=axes, keepdims=int(keepdims))

    def sum(self, value: str, *axes: int) -> str:
        """The sum over axes, which are gone then."""
        return self.op('ReduceSum', value, self.integers(*axes), keepdims=0)

    def square(self, value: str) -> str:
        """The squares."""
        return self.op('Mul', value, value)

    def _store(self, name: str, array: np.ndarray) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def finish(
        self,
        image: tuple[str, int],
        outputs: Mapping[str, tuple[str, Sequence[int]]],
        metadata: Mapping[str, str],
        version: str,
    ) -> onnx.ModelProto:
        """The model, checked.

        Args:
          image: Name and side of the input, uint8 [batch, side, side, 3].
          outputs: Name to value and shape of one face's, float32 [batch, ...].
          metadata: Texts that the file holds.
          version: Of this program.

        Raises:
          onnx.checker.ValidationError: when it is no valid model.
        """
        name, side = image
        shape_of_images: list[str | int | None] = ['batch', side, side, 3]
        images = helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape_of_images)
        results = [
            helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, ['batch', *shape])
            for key, (_, shape) in outputs.items()
        ]
        ends = [helper.make_node('Identity', [value], [key]) for key, (value, _) in outputs.items()]
        graph = helper.make_graph(
            [*self._nodes, *ends], 'hybrid', [images], results, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid('', OPSET)],
            ir_version=IR_VERSION,
            producer_name='hybrid',
            producer_version=version,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model
