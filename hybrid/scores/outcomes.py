"""What a single prediction comes to: which gender it names, by how many years it errs."""

from typing import Any

import numpy as np

GENDERS = ('male', 'female')
# A probability that is not above this, and so 0.5 itself, names the other gender.
_FEMALE_ABOVE = 0.5


def is_female(probability: Any) -> Any:
    """Whether a female probability, or each of an array of NumPy or JAX, names that gender."""
    return probability > _FEMALE_ABOVE


def is_scored(probability: np.ndarray, gender: np.ndarray) -> np.ndarray:
    """Whether both the true genders `[N]` are known and the model says something of gender."""
    return (gender >= 0) & ~np.isnan(probability)


def is_right(probability: np.ndarray, gender: np.ndarray) -> np.ndarray:
    """Whether female probabilities `[N]` name the true genders `[N]`.

    Args:
      probability: of being female.
      gender: 0 for male, 1 for female, -1 for unknown.

    Returns:
      bool `[N]`; False where the gender is unknown, or not predicted: see `is_scored`.
    """
    return is_female(probability) == gender


def age_error(predicted: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Predicted less true ages, float64 `[N]` in years; NaN where either is unknown."""
    return predicted.astype(np.float64) - age


def absolute_age_error(predicted: np.ndarray, age: np.ndarray) -> np.ndarray:
    """The absolute value of `age_error`, whose mean over the known ages is the MAE."""
    return np.abs(age_error(predicted, age))


def mean(values: np.ndarray) -> float:
    """The mean of `[N]` values in float64; NaN for N = 0."""
    return float(values.mean(dtype=np.float64)) if values.size else float('nan')
