"""Heads: what the network says of a face, from its features, and how it learns to say it.

`head.Head` writes down what a head is. A new age head is a class of its own, in a file of its own,
and one line in `AGE_HEADS`; `config.model.head.age` then names it:

    heads.AGE_HEADS['median'] = MedianHead
"""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from hybrid.models.heads.coral import CoralHead
from hybrid.models.heads.corn import CornHead
from hybrid.models.heads.dex import DexHead
from hybrid.models.heads.gender import GenderHead
from hybrid.models.heads.head import YEARS, Head
from hybrid.models.heads.laplace import LaplaceHead
from hybrid.models.heads.ldl import LdlHead
from hybrid.models.heads.mean_variance import MeanVarianceHead
from hybrid.models.heads.regression import AGE_LOSSES, RegressionHead
from hybrid.scores import distributions

__all__ = [
    'AGE_HEADS',
    'AGE_LOSSES',
    'YEARS',
    'CoralHead',
    'CornHead',
    'DexHead',
    'GenderHead',
    'Head',
    'LaplaceHead',
    'LdlHead',
    'MeanVarianceHead',
    'RegressionHead',
    'create_heads',
    'predict',
]

# The values of `config.model.head.age`.
AGE_HEADS: dict[str, type[Head]] = {
    'regression': RegressionHead,
    'dex': DexHead,
    'ldl': LdlHead,
    'mean_variance': MeanVarianceHead,
    'coral': CoralHead,
    'corn': CornHead,
    'laplace': LaplaceHead,
}


def create_heads(head: ConfigDict, loss: ConfigDict | None = None) -> dict[str, Head]:
    """Creates the heads that a config describes.

    Args:
      head: `config.model.head`.
      loss: `config.loss`; None for heads that only estimate, whose `loss` is not called.

    Returns:
      The heads by name, 'age' and 'gender'. The network returns the outputs of each under its name,
      `config.loss.<name>_weight` weighs its loss, and `<name>_loss` is the column of its losses.
    """
    return {
        'age': AGE_HEADS[head.age].from_config(head, loss),
        'gender': GenderHead.from_config(head, loss),
    }


def predict(
    heads: Mapping[str, Head], outputs: Mapping[str, Any], age_estimate: str = 'mean'
) -> dict[str, jax.Array]:
    """The predictions of all heads; see `Head.predict`.

    Args:
      heads: By name.
      outputs: Of the network, by the names of the heads.
      age_estimate: `config.evaluate.age_estimate`. A head without a distribution predicts one
        number, which is the mean, the median and the mode that there is.
    """
    columns: dict[str, jax.Array] = {}
    for name, head in heads.items():
        columns |= head.predict(outputs[name])
    if 'age_probabilities' in columns:
        columns['predicted_age'] = distributions.estimate(
            columns['age_probabilities'], age_estimate, columns['predicted_age']
        )
    return columns
