"""What a distribution of ages says in one number.

It is given as the probabilities of the years 0, 1, and so on, of NumPy or JAX. Heads share the
weight of an age between two years so that their mean is that age; so the year 30 stands for the age
30.0, and its probability is taken to be spread evenly from 29.5 to 30.5. Then mean, median and mode
of a distribution that is sure of the year 30 are all 30.0.
"""

from typing import Any

import numpy as np

# The values of `config.evaluate.age_estimate`.
ESTIMATES = ('mean', 'median', 'mode')


def quantile(probabilities: Any, level: float) -> Any:
    """The age below which a share `level` of a distribution lies.

    Args:
      probabilities: [..., years].
      level: From 0 to 1; 0.5 for the median.

    Returns:
      Years [...]. If a gap between years with probability allows several, it is the lowest.
    """
    upper = probabilities.cumsum(axis=-1)
    below = level * upper[..., -1:] - (upper - probabilities)
    # The share of each year that lies below. A year without any probability has all or nothing.
    return (below / (probabilities + 1e-30)).clip(0, 1).sum(axis=-1) - 0.5


def estimate(probabilities: Any, kind: str, mean: Any) -> Any:
    """The estimate of age that `config.evaluate.age_estimate` names.

    Args:
      probabilities: [..., years].
      kind: One of ESTIMATES. The median has the least mean absolute error of all, if the
        distribution is right; the mode is a whole year.
      mean: The mean, years [...], which whoever has the distribution has, too.

    Returns:
      Years [...].
    """
    if kind == 'median':
        return quantile(probabilities, 0.5)
    # What is not a number stays so.
    return probabilities.argmax(axis=-1) + 0 * mean if kind == 'mode' else mean


def crps(probabilities: np.ndarray, age: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score, which for a single number is the absolute error.

    It is the squared distance between the distribution and the label, as step functions over the
    years: Gneiting and Raftery, Strictly proper scoring rules, JASA 2007.

    Args:
      probabilities: [N, years] of the ages 0.0, 1.0 and so on.
      age: True ages [N] in years, NaN where unknown.

    Returns:
      Years [N], float32; the lower, the better. NaN where the age is unknown.
    """
    younger = np.cumsum(probabilities.astype(np.float64), axis=1)[:, :-1]
    # The part of each year that lies before the label; behind the last year all is certain.
    before = np.clip(age[:, None] - np.arange(younger.shape[1]), 0, 1)
    values = (younger**2 * before + (1 - younger) ** 2 * (1 - before)).sum(axis=1)
    return (values + np.maximum(age - younger.shape[1], 0)).astype(np.float32)
