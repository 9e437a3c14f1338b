"""Whether a probability of gender means what it says, and how to make it do so.

Guo et al., On calibration of modern neural networks, ICML 2017: one temperature, fitted on a
validation split, by which logits are divided. It never changes which gender is the likelier one.
"""

import numpy as np

from hybrid.scores.bootstrap import resampled_means
from hybrid.scores.outcomes import is_female

NUM_BINS = 15
# Beyond these a few examples, or ones that are all right, would decide.
_COLDEST, _HOTTEST = 0.1, 10.0
_SMALLEST = 50  # Of fewer examples no temperature is fitted.
_TINY = 1e-7


def _logits(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(clipped) - np.log1p(-clipped)


def at_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Female probabilities [N] whose logits are divided by a temperature, float32.

    Above 1 it makes them less extreme. NaN stays NaN, and the likelier gender the likelier one.
    """
    if temperature == 1:
        return probability.astype(np.float32)
    cooled = (1 / (1 + np.exp(-_logits(probability) / temperature))).astype(np.float32)
    half = np.float32(0.5)
    # What was just above a half may have been rounded to it.
    kept = is_female(probability) & ~is_female(cooled)
    return np.where(kept, np.nextafter(half, np.float32(1)), cooled)


def fit_temperature(probability: np.ndarray, gender: np.ndarray) -> float:
    """The temperature at which the probabilities of the true genders are the likeliest.

    Args:
      probability: Female probabilities [N].
      gender: True genders [N], 0 male, 1 female; others, and NaN probabilities, do not count.

    Returns:
      The temperature, between 0.1 and 10; 1 if there are too few examples, or of one gender only.
    """
    known = (gender >= 0) & ~np.isnan(probability)
    true = gender[known] == 1
    if known.sum() < _SMALLEST or true.all() or not true.any():
        return 1.0
    from scipy import optimize  # Slow to import, and rarely needed.

    # Of the true gender, whose cross-entropy is convex in the reciprocal of the temperature.
    logits = np.where(true, 1, -1) * _logits(probability[known])
    found = optimize.minimize_scalar(
        lambda cold: np.logaddexp(0, -logits * cold).mean(),
        bounds=(1 / _HOTTEST, 1 / _COLDEST),
        method='bounded',
        options={'xatol': 1e-6},
    )
    return float(1 / found.x)


def _bin_of(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * NUM_BINS).astype(int), NUM_BINS - 1)


def bins(probability: np.ndarray, gender: np.ndarray) -> list[tuple[int, float, float]]:
    """What is said and what is true of faces of like probability: the reliability diagram.

    Args:
      probability: Female probabilities [N], of which none is NaN.
      gender: True genders [N], 0 male or 1 female.

    Returns:
      For each of `NUM_BINS` bins of equal width between 0 and 1 the number of examples, their mean
      probability and the share of females among them; NaN of an empty one.
    """
    which = _bin_of(probability)
    found = []
    for k in range(NUM_BINS):
        inside = which == k
        said = probability[inside].mean(dtype=np.float64) if inside.any() else np.nan
        true = gender[inside].mean(dtype=np.float64) if inside.any() else np.nan
        found.append((int(inside.sum()), float(said), float(true)))
    return found


def calibration_error(probability: np.ndarray, gender: np.ndarray) -> float:
    """The expected calibration error, ECE: how far what is said and what is true lie apart.

    It is the mean, over the examples, of the distance in their bin; see `bins`. Of few examples it
    is above 0 by chance, however well probabilities are calibrated.
    """
    found = [one for one in bins(probability, gender) if one[0]]
    total = sum(count for count, _, _ in found)
    distance = sum(count * abs(said - true) for count, said, true in found)
    return distance / total if total else float('nan')


def scores(probability: np.ndarray, gender: np.ndarray) -> dict[str, tuple[float, np.ndarray]]:
    """How good probabilities are: `brier`, and `nll` in nats.

    Args:
      probability: As for `bins`.
      gender: Likewise.

    Returns:
      By name the score and 1,000 of bootstrap resamples of the examples. Brier's score is the mean
      of the squared distance between the probability and what is true (0 or 1).
    """
    true = np.where(gender == 1, probability, 1 - probability).astype(np.float64)
    signed = (probability.astype(np.float64) - gender) ** 2
    surprise = -np.log(np.maximum(true, _TINY))
    resamples = resampled_means(np.stack([signed, surprise]))
    return {
        'brier': (float(signed.mean()) if len(signed) else np.nan, resamples[0]),
        'nll': (float(surprise.mean()) if len(surprise) else np.nan, resamples[1]),
    }
