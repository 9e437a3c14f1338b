"""Heads as ONNX: from features to what they say of a face, averaged over its views.

A head of one's own is exported once a function for its class is in `HEADS`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hybrid.models import heads
from hybrid.runs.export.encoders import Tree
from hybrid.runs.export.graph import Graph


class Features(NamedTuple):
    """What a head gets.

    Attributes:
      graph: Where it is written.
      name: What the names of its parameters begin with.
      params: Its parameters.
      value: The features [V * B, F] of V views of B faces, float32: all faces of the first view
        come first.
      views: V.
    """

    graph: Graph
    name: str
    params: Tree
    value: str
    views: int

    def dense_layers(self) -> str:
        """What `head.dense_layers` makes of the features: [V * B, D]."""
        x = self.value
        if 'hidden_layer' in self.params:
            x = self.graph.op('Relu', self._dense(x, 'hidden_layer'))
        return self._dense(x, 'output')

    def _dense(self, x: str, layer: str) -> str:
        kernel, bias = (
            self.graph.parameter(f'{self.name}.{layer}.{leaf}', self.params[layer][leaf])
            for leaf in ('kernel', 'bias')
        )
        return self.graph.op('Add', self.graph.op('MatMul', x, kernel), bias)

    def mean_of_views(self, x: str, size: int) -> str:
        """The mean over the views of what a head says of each: [V * B, size] to [B, size]."""
        if self.views == 1:
            return x
        return self.graph.mean(self.graph.reshape(x, self.views, -1, size), 0)


# Columns as `Head.predict` names them: [B], and `age_probabilities` [B, YEARS].
Columns = dict[str, str]


def _regression(head: heads.RegressionHead, features: Features) -> Columns:
    graph = features.graph
    x = features.mean_of_views(features.dense_layers(), 1)
    x = graph.op('Mul', x, graph.constant(head.age_scale))
    x = graph.op('Add', x, graph.constant(head.age_offset))
    return {'predicted_age': graph.reshape(graph.op('Relu', x), -1)}


def _years(head: heads.Head, features: Features) -> Columns:
    del head
    graph = features.graph
    probabilities = graph.op('Softmax', features.dense_layers(), axis=-1)
    return distribution(graph, features.mean_of_views(probabilities, heads.YEARS))


def _gender(head: heads.GenderHead, features: Features) -> Columns:
    del head
    graph = features.graph
    probabilities = graph.op('Softmax', features.dense_layers(), axis=-1)
    mean = features.mean_of_views(probabilities, 2)
    return {'female_probability': graph.reshape(graph.slice(mean, 1, 1, 2), -1)}


def distribution(graph: Graph, probabilities: str) -> Columns:
    """What a distribution of ages [B, YEARS] says: its mean, and how wide it is."""
    years = graph.constant(np.arange(heads.YEARS))
    age = graph.sum(graph.op('Mul', probabilities, years), 1)
    away = graph.op('Sub', years, graph.op('Unsqueeze', age, graph.integers(1)))
    variance = graph.sum(graph.op('Mul', probabilities, graph.square(away)), 1)
    return {
        'predicted_age': age,
        'age_width': graph.op('Sqrt', variance),
        'age_probabilities': probabilities,
    }


# The class of a head -> the function that writes it.
HEADS: dict[type[heads.Head], Callable[[Any, Features], Columns]] = {
    heads.RegressionHead: _regression,
    heads.DexHead: _years,
    heads.GenderHead: _gender,
}


def write(head: heads.Head, features: Features) -> Columns:
    """Writes a head.

    Raises:
      ValueError: for one that has no such function.
    """
    if type(head) not in HEADS:
        raise ValueError(
            f'the head {type(head).__name__} cannot be exported as ONNX: '
            'hybrid.runs.export.heads.HEADS has no function for it'
        )
    return HEADS[type(head)](head, features)
