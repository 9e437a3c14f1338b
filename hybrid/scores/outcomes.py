"""What a single prediction comes to: which gender it names, by how many years it errs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

GENDERS = ('male', 'female')
UNSURE = 'unsure'
# A probability that is not above this, and so 0.5 itself, names the other gender.
_FEMALE_ABOVE = 0.5


def is_female(probability: Any) -> Any:
    """Whether a female probability, or each of an array of NumPy or JAX, names that gender."""
    return probability > _FEMALE_ABOVE


def gender_name(probability: float, unsure_below: float = 0.5) -> str:
    """The likelier gender, or 'unsure' if its probability is below a threshold."""
    if max(probability, 1 - probability) < unsure_below:
        return UNSURE
    return GENDERS[int(is_female(probability))]


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


def age_text(low: float, high: float) -> str:
    """An age, or a range of ages, as `25`, `20-29` or `70+`."""
    if np.isinf(high):
        return f'{low:g}+'
    return f'{low:g}' if low == high else f'{low:g}-{high:g}'


def age_bounds(columns: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is known of ages, which may be ranges, such as 20-29.

    Args:
      columns: of NumPy or JAX: `age` in years, and `age_min` and `age_max` unless all are exact.

    Returns:
      The lower and the upper bounds in years: the age twice where it is exact, NaN where it is
      unknown; the upper one of a range such as 70+ is infinite.
    """
    age = columns['age']
    return columns.get('age_min', age), columns.get('age_max', age)


def age_error(predicted: np.ndarray, low: np.ndarray, high: np.ndarray | None = None) -> np.ndarray:
    """Predicted less true ages, float64 `[N]` in years; NaN where either is unknown.

    A range `low` to `high` is known in completed years, as exact ages are, and the error is to the
    nearest age that it allows: none inside, and both ends are inside.
    """
    predicted = predicted.astype(np.float64)
    return predicted - (low if high is None else np.clip(predicted, low, high))


def absolute_age_error(
    predicted: np.ndarray, low: np.ndarray, high: np.ndarray | None = None
) -> np.ndarray:
    """The absolute value of `age_error`, whose mean over the exact ages is the MAE."""
    return np.abs(age_error(predicted, low, high))


def is_inside(predicted: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether predicted ages `[N]`, as completed years, are in ranges: 29.9 is in 20-29."""
    return (predicted >= low) & (np.floor(predicted) <= high)


def median_age(low: np.ndarray, high: np.ndarray) -> float | None:
    """The number of years from which ages have the least mean distance.

    It is the median of exact ages, and that of the ends of all ranges otherwise: the distance to a
    range is half of the distances to its ends together, less a constant.

    Args:
      low: Lower bounds `[N]` in years, NaN where the age is unknown.
      high: Upper bounds `[N]`, from `age_bounds`.

    Returns:
      Years; None if no age is known.
    """
    known = ~np.isnan(low)
    ends = np.sort(np.concatenate([low[known], high[known]]))
    if not ends.size:
        return None
    middle = float(np.median(ends))
    # Open ranges may take the upper of the two in the middle to infinity: the lower is as good.
    return middle if np.isfinite(middle) else float(ends[len(ends) // 2 - 1])


def mean(values: np.ndarray) -> float:
    """The mean of `[N]` values in float64; NaN for N = 0."""
    return float(values.mean(dtype=np.float64)) if values.size else float('nan')
