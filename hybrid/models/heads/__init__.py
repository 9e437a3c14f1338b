"""Heads: what the network says of a face, from its features, and how it learns to say it.

`head.Head` writes down what a head is. A new age head is a class of its own, in a file of its own,
and one line in `AGE_HEADS`; `config.model.head.age` then names it:

    heads.AGE_HEADS['median'] = MedianHead
"""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from hybrid.models.heads.dex import DexHead
from hybrid.models.heads.gender import GenderHead
from hybrid.models.heads.head import YEARS, Head
from hybrid.models.heads.regression import AGE_LOSSES, RegressionHead

__all__ = [
    'AGE_HEADS',
    'AGE_LOSSES',
    'YEARS',
    'DexHead',
    'GenderHead',
    'Head',
    'RegressionHead',
    'create_heads',
    'predict',
]

# The values of `config.model.head.age`.
AGE_HEADS: dict[str, type[Head]] = {
    'regression': RegressionHead,
    'dex': DexHead,
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


def predict(heads: Mapping[str, Head], outputs: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The predictions of all heads, from the outputs of the network; see `Head.predict`."""
    columns: dict[str, jax.Array] = {}
    for name, head in heads.items():
        columns |= head.predict(outputs[name])
    return columns
