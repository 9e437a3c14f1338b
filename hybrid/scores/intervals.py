"""Prediction intervals of age that keep their promise: split-conformal prediction.

The errors of predicted ages are collected on examples that the model was not trained on, by bands
of the predicted age. Intervals of level 0.9 reach as far as the error that one in ten of them
exceeds. So they hold the true age of at least 90 % of new examples of the same distribution, and of
at least 90 % in each band of the predicted age (not of the true one). This follows from ranks
alone, whatever the model is.

Papadopoulos et al., Inductive confidence machines for regression, ECML 2002; Lei et al.,
Distribution-free predictive inference for regression, JASA 2018, which scales errors, too; Vovk et
al., Mondrian confidence machine, 2003, for bands.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

# The lower edges of bands of predicted age but for the first; those with few examples are joined.
EDGES = (3, 10, 20, 30, 40, 50, 60, 70)
# So many errors a band has at least. For 95 % it takes 19; with 100 the coverage of one band, over
# all the validation splits that one could have, has a standard deviation of 2 points.
SMALLEST = 100
LEAST_WIDTH = 0.1  # Years, below which a predicted width would say nothing.
OLDEST = 125.0  # Nobody has ever been older than 122.


@dataclasses.dataclass(frozen=True, eq=False)
class Intervals:
    """The errors on a validation split, from which intervals of any level follow.

    Attributes:
      edges: Lower edges of the bands of predicted age but for the first, in years.
      errors: For each band the absolute errors there, sorted, float32: in years, or if `scaled` in
        units of the predicted width.
      scaled: Whether intervals are wide where the model itself predicts a wide distribution.
    """

    edges: tuple[float, ...]
    errors: tuple[np.ndarray, ...]
    scaled: bool = False

    def __call__(
        self, predicted: np.ndarray, width: np.ndarray | None, level: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The intervals of faces.

        Args:
          predicted: Ages [N] in years.
          width: Standard deviations [N] in years of the predicted distributions; None if the model
            predicts none.
          level: The share of true ages that they hold, between 0 and 1.

        Returns:
          The lower and the upper ends [N] in years, float32, from 0 to 125; from end to end where
          the level takes more errors than a band has. NaN where the age is.
        """
        reach = np.array([quantile(errors, level) for errors in self.errors])
        half = reach[np.digitize(predicted, self.edges)]
        if self.scaled:
            assert width is not None
            half = half * np.maximum(width, LEAST_WIDTH)
        predicted = predicted.astype(np.float64)
        low, high = np.clip([predicted - half, predicted + half], 0, OLDEST)
        return low.astype(np.float32), high.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """A dict for a JSON file, from which `from_json` makes the same intervals."""
        # By way of text: the shortest number that is this float32.
        errors = [[float(str(value)) for value in of_band] for of_band in self.errors]
        return {'scaled': self.scaled, 'edges': list(self.edges), 'errors': errors}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`.

        Raises:
          KeyError, TypeError, ValueError: when the record is no such dict.
        """
        errors = tuple(np.array(of_band, np.float32) for of_band in record['errors'])
        edges = tuple(float(edge) for edge in record['edges'])
        if len(errors) != len(edges) + 1:
            raise ValueError(f'{len(edges)} edges between {len(errors)} bands')
        return cls(edges, errors, bool(record['scaled']))


def quantile(errors: np.ndarray, level: float) -> float:
    """The smallest error that is not exceeded with probability `level` by one more of its kind.

    Args:
      errors: Sorted [N].
      level: Between 0 and 1.

    Returns:
      The ceil((N + 1) level)-th of them; infinite if there are not so many.
    """
    rank = int(np.ceil((len(errors) + 1) * level - 1e-9))
    return float(errors[max(rank, 1) - 1]) if rank <= len(errors) else float('inf')


def fit(
    age: np.ndarray, predicted: np.ndarray, width: np.ndarray | None = None
) -> Intervals | None:
    """Collects the errors of a validation split.

    Args:
      age: True ages [N] in years; those that are unknown, or known as ranges only, are NaN and do
        not count.
      predicted: Predicted ages [N] in years.
      width: Standard deviations [N] in years of the predicted distributions, by which errors are
        to be scaled; None for errors in years.

    Returns:
      The intervals; None if fewer than `SMALLEST` ages are known.
    """
    known = ~np.isnan(age) & ~np.isnan(predicted)
    if known.sum() < SMALLEST:
        return None
    age, predicted = age[known].astype(np.float64), predicted[known].astype(np.float64)
    errors = np.abs(predicted - age)
    if width is not None:
        errors /= np.maximum(width[known].astype(np.float64), LEAST_WIDTH)
    edges = joined_edges(predicted)
    band = np.digitize(predicted, edges)
    by_band = (np.sort(errors[band == k]).astype(np.float32) for k in range(len(edges) + 1))
    return Intervals(edges, tuple(by_band), width is not None)


def joined_edges(predicted: np.ndarray) -> tuple[float, ...]:
    """Those of `EDGES` between which, from below, there are at least `SMALLEST` of the ages [N]."""
    edges: list[float] = []
    below = 0
    for edge in EDGES:
        count = int((predicted < edge).sum())
        if count - below >= SMALLEST:
            edges.append(float(edge))
            below = count
    if edges and len(predicted) - below < SMALLEST:
        edges.pop()
    return tuple(edges)
