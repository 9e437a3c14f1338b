"""Weights of ages in the loss, so that what is rare in the training split counts for more.

`inverse` weights a year by one over its frequency, `lds`, label distribution smoothing, by one over
its frequency among the years about it: Yang, Zha, Chen, Wang and Katabi, "Delving into deep
imbalanced regression", ICML 2021, https://arxiv.org/abs/2102.09554. A range counts for each of its
years in part, and weighs as they do on average.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid.models.heads.distribution import clipped_labels, shares
from hybrid.models.heads.head import YEARS
from hybrid.scores.outcomes import age_bounds

# The values of `config.data.balance`.
BALANCES = ('none', 'inverse', 'lds')
# For dataset.json: the keys that weights follow from, and what holds the weights of the years.
_SETTINGS = ('balance', 'balance_power', 'balance_width')
RECORD, WEIGHTS = 'balance', 'weights'


def describe(
    labels: Mapping[str, np.ndarray], data: ConfigDict, before: Mapping[str, Any]
) -> dict[str, Any]:
    """The part of dataset.json about the weights of ages.

    Args:
      labels: From `records.read_columns`, of the training split.
      data: `config.data`.
      before: What dataset.json holds: weights by the same settings are taken from there, so that a
        run goes on with those that it began with, whatever computes them now. Of the training split
        it is known to be the same (`dataset_record.check_continues`).

    Returns:
      `RECORD` with the settings and, under WEIGHTS, those of the years from 0 on; nothing if ages
      are not balanced, or none is known.
    """
    low, _ = age_bounds(labels)
    if data.balance == 'none' or np.isnan(low).all():
        return {}
    settings = {key: data[key] for key in _SETTINGS}
    earlier = before.get(RECORD, {})
    if {key: earlier.get(key) for key in _SETTINGS} == settings:
        return {RECORD: earlier}
    width = data.balance_width if data.balance == 'lds' else 0.0
    weights = year_weights(labels, width, data.balance_power)
    return {RECORD: settings | {WEIGHTS: weights.tolist()}}


def year_weights(labels: Mapping[str, np.ndarray], width: float, power: float) -> np.ndarray:
    """The weights of years.

    Args:
      labels: `age`, and `age_min` and `age_max` unless all are exact, [N] each, some of them known.
      width: Standard deviation in years of the Gaussian that smooths frequencies; 0 for none.
      power: Of the frequency, in one over which weights are proportional.

    Returns:
      float32 [YEARS], such that weights of the known ages have the mean 1; 0 for years of nobody.
    """
    bounds = np.stack(age_bounds(labels), axis=-1)
    # Few are different, so that there is no row of years for each example.
    bounds, counts = np.unique(bounds[~np.isnan(bounds[:, 0])], axis=0, return_counts=True)
    low, high = bounds.T
    years = np.asarray(_years({'age': low, 'age_min': low, 'age_max': high}), np.float64)
    found = frequency = counts @ years
    if width:
        near = np.exp(
            -(np.subtract.outer(np.arange(YEARS), np.arange(YEARS)) ** 2) / (2 * width**2)
        )
        # Beyond the ends there are no years that could have been frequent or rare.
        frequency = near @ frequency / near.sum(axis=1)
    weights = np.zeros(YEARS)
    weights[found > 0] = frequency[found > 0] ** -power
    return (weights * counts.sum() / (found @ weights)).astype(np.float32)


def example_weights(weights: Sequence[float], labels: Mapping[str, Any]) -> jax.Array:
    """The weights [B] of examples, given those of years and the columns of a batch.

    What is unknown weighs 1.
    """
    *_, known = clipped_labels(labels)
    return jnp.where(known > 0, _years(labels) @ jnp.array(weights, jnp.float32), 1.0)


def _years(labels: Mapping[str, Any]) -> jax.Array:
    """To which years ages belong, [B, YEARS], as parts of 1; of unknown ones year 0."""
    lower, upper, _ = clipped_labels(labels)
    allowed = shares(lower, upper)
    return allowed / jnp.sum(allowed, axis=-1, keepdims=True)
