"""Heads as ONNX: from features to what they say of a face, averaged over its views.

A head of one's own is exported once a function for its class is in `HEADS`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hybrid.models import heads
from hybrid.models.heads import coral, laplace
from hybrid.models.heads import distribution as distribution_lib
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

    def by_view(self, x: str, size: int) -> str:
        """What a head says of each view: [V * B, size] to [V, B, size]."""
        return self.graph.reshape(x, self.views, -1, size)

    def mean_of_views(self, x: str, size: int) -> str:
        """The mean over the views: [V * B, size] to [B, size]."""
        return x if self.views == 1 else self.graph.mean(self.by_view(x, size), 0)


# Columns as `Head.predict` names them: [B], and `age_probabilities` [B, YEARS].
Columns = dict[str, str]
_YEARS = heads.YEARS


def _regression(head: heads.RegressionHead, features: Features) -> Columns:
    graph = features.graph
    x = features.mean_of_views(features.dense_layers(), 1)
    x = graph.op('Mul', x, graph.constant(head.age_scale))
    x = graph.op('Add', x, graph.constant(head.age_offset))
    return {'predicted_age': graph.reshape(graph.op('Relu', x), -1)}


def _years(head: heads.Head, features: Features) -> Columns:
    del head
    graph = features.graph
    # The head `ldl` may have a number behind the years.
    logits = graph.slice(features.dense_layers(), 1, 0, _YEARS)
    probabilities = graph.op('Softmax', logits, axis=-1)
    return distribution(graph, features.mean_of_views(probabilities, _YEARS))


def _coral(head: heads.CoralHead, features: Features) -> Columns:
    del head
    graph, params = features.graph, features.params
    biases = np.sort(params['biases'])[::-1]
    sharpness = np.exp(coral.SHARPNESS_RATE * params['log_sharpness'])
    logits = graph.op('Add', features.dense_layers(), graph.constant(biases))
    logits = graph.op('Mul', logits, graph.constant(sharpness))
    earlier, later = (graph.slice(logits, 1, k, _YEARS - 2 + k) for k in (0, 1))
    older, younger = graph.op('Sigmoid', logits), graph.op('Sigmoid', graph.op('Neg', logits))
    step = graph.op('Exp', graph.op('Sub', later, earlier))
    between = graph.op(
        'Mul', graph.slice(older, 1, 0, _YEARS - 2), graph.slice(younger, 1, 1, 2**31)
    )
    between = graph.op('Mul', between, graph.op('Sub', graph.constant(1), step))
    ends = graph.slice(younger, 1, 0, 1), graph.slice(older, 1, -1, 2**31)
    probabilities = graph.op('Concat', ends[0], between, ends[1], axis=1)
    return distribution(graph, features.mean_of_views(probabilities, _YEARS))


def _corn(head: heads.CornHead, features: Features) -> Columns:
    del head
    graph = features.graph
    logits = features.dense_layers()
    # Minus the logarithms of the probabilities of yes and of no.
    yes, no = (graph.op('Softplus', x) for x in (graph.op('Neg', logits), logits))
    older = graph.op('CumSum', yes, graph.integers(1))
    at_least = graph.op('Pad', older, graph.integers(0, 1, 0, 0))
    asked = graph.op('Add', at_least, graph.op('Pad', no, graph.integers(0, 0, 0, 1)))
    probabilities = graph.op('Exp', graph.op('Neg', asked))
    return distribution(graph, features.mean_of_views(probabilities, _YEARS))


def _laplace(head: heads.LaplaceHead, features: Features) -> Columns:
    graph = features.graph

    def linear(x: str, factor: float, summand: float = 0.0) -> str:
        return graph.op('Add', graph.op('Mul', x, graph.constant(factor)), graph.constant(summand))

    location, scale = (graph.slice(features.dense_layers(), 1, k, k + 1) for k in (0, 1))
    location = linear(location, head.age_scale, head.age_offset)
    scale = graph.op('Tanh', linear(scale, 1 / laplace.MOST))
    scale = graph.op('Exp', linear(scale, laplace.MOST, np.log(head.age_scale / np.sqrt(2))))
    each = graph.op('Clip', location, graph.constant(0), graph.constant(_YEARS - 1))
    age = features.mean_of_views(each, 1)
    away = graph.square(graph.op('Sub', features.by_view(each, 1), age))
    variance = graph.op('Add', linear(features.by_view(graph.square(scale), 1), 2), away)

    def twice_below(ends: np.ndarray) -> str:
        """Twice the mass below some ages, less 1."""
        z = graph.op('Div', graph.op('Sub', graph.constant(ends), location), scale)
        rest = graph.op('Exp', graph.op('Neg', graph.op('Abs', z)))
        return graph.op('Mul', graph.op('Sign', z), graph.op('Sub', graph.constant(1), rest))

    years = distribution_lib.years()
    lower, upper = (np.asarray(ends) for ends in laplace.year_ends(years, years))
    masses = linear(graph.op('Sub', twice_below(upper), twice_below(lower)), 0.5)
    return {
        'predicted_age': graph.reshape(age, -1),
        'age_width': graph.reshape(graph.op('Sqrt', graph.mean(variance, 0)), -1),
        'age_probabilities': features.mean_of_views(masses, _YEARS),
    }


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


def estimate(graph: Graph, probabilities: str, kind: str, mean: str) -> str:
    """As `distributions.estimate`, of [B, YEARS]."""
    if kind == 'mode':
        return graph.cast(graph.op('ArgMax', probabilities, axis=1, keepdims=0), np.float32)
    if kind == 'mean':
        return mean
    upper = graph.op('CumSum', probabilities, graph.integers(1))
    half = graph.op('Mul', graph.slice(upper, 1, -1, 2**31), graph.constant(0.5))
    below = graph.op('Sub', half, graph.op('Sub', upper, probabilities))
    share = graph.op('Div', below, graph.op('Add', probabilities, graph.constant(1e-30)))
    share = graph.op('Clip', share, graph.constant(0), graph.constant(1))
    return graph.op('Sub', graph.sum(share, 1), graph.constant(0.5))


# The class of a head -> the function that writes it.
HEADS: dict[type[heads.Head], Callable[[Any, Features], Columns]] = {
    heads.RegressionHead: _regression,
    heads.DexHead: _years,
    heads.LdlHead: _years,
    heads.MeanVarianceHead: _years,
    heads.CoralHead: _coral,
    heads.CornHead: _corn,
    heads.LaplaceHead: _laplace,
    heads.GenderHead: _gender,
}


def write(head: heads.Head, features: Features, age_estimate: str = 'mean') -> Columns:
    """Writes a head.

    Args:
      head: It.
      features: What it gets.
      age_estimate: `config.evaluate.age_estimate`.

    Raises:
      ValueError: for one that has no such function.
    """
    if type(head) not in HEADS:
        raise ValueError(
            f'the head {type(head).__name__} cannot be exported as ONNX: '
            'hybrid.runs.export.heads.HEADS has no function for it'
        )
    columns = HEADS[type(head)](head, features)
    if probabilities := columns.get('age_probabilities'):
        of_mean = columns['predicted_age']
        of_kind = estimate(features.graph, probabilities, age_estimate, of_mean)
        columns['predicted_age'] = of_kind
    return columns
