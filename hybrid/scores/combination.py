"""Combines the predictions of an ensemble's members, and fits the weights of members."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from hybrid.scores import distributions
from hybrid.scores.outcomes import age_bounds, is_female

WEIGHTINGS = ('uniform', 'validation')
# Years. A member that predicts more, even once, has gone wild: it gets no weight for ages.
_WILD = 1e4


@dataclasses.dataclass(frozen=True)
class Weights:
    """How much each of K members counts; no weight is negative, and each kind adds up to 1.

    Attributes:
      age: Weights [K] of ages, and of what else is predicted of age.
      gender: Weights [K] of female probabilities.
    """

    age: np.ndarray
    gender: np.ndarray

    def of(self, ages: np.ndarray, genders: np.ndarray) -> 'Weights':
        """The weights of the members that predict ages, and of those that predict genders.

        Args:
          ages: Which of the K members, bool [K].
          genders: Likewise.
        """
        return Weights(_share(self.age, ages), _share(self.gender, genders))


def _share(weights: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The weights of some members, adding up to 1; equal ones if all of them are 0."""
    if which.all():
        return weights
    some = weights[which]
    return some / some.sum() if some.sum() else np.full(len(some), 1 / max(len(some), 1))


def uniform(count: int) -> Weights:
    """The same weight for each of `count` members."""
    return Weights(np.full(count, 1 / max(count, 1)), np.full(count, 1 / max(count, 1)))


def combine(
    ages: np.ndarray,
    female: np.ndarray,
    weights: Weights | None = None,
    widths: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    age_estimate: str = 'mean',
) -> dict[str, np.ndarray]:
    """Combines members: ages by their mean, and probabilities by theirs.

    Args:
      ages: Predicted ages [N, K] in years.
      female: Female probabilities [N, L]; L is not K where some members predict one kind only.
      weights: The members' weights; None for equal ones.
      widths: Standard deviations [N, K] in years of the distributions of age that members predict;
        None if not all of them predict one, since their mixture is not known then.
      probabilities: These distributions themselves, [N, years, K], likewise.
      age_estimate: `config.evaluate.age_estimate`, one of `distributions.ESTIMATES`: with
        probabilities, what to predict of the mixture. Without them nobody knows more of it than
        what each member predicts; then it is the mean of these in any case.

    Returns:
      Columns [N], float32, NaN where K or L is 0: `predicted_age` in years, `female_probability`,
      `age_std`, the standard deviation between members in years, and `gender_agreement`, the share
      of members whose own gender is the ensemble's. Weights do not change the last two, except that
      they may change which gender is the ensemble's. With widths also `age_width`, the standard
      deviation in years of the mixture of the members' distributions, and with probabilities that
      mixture, `age_probabilities` [N, years].
    """
    ages, female = np.asarray(ages, np.float64), np.asarray(female, np.float64)
    weights = weights or Weights(uniform(ages.shape[1]).age, uniform(female.shape[1]).gender)
    if not ages.shape[1]:  # The mean of no members is unknown, not 0.
        ages, weights = np.full((len(ages), 1), np.nan), Weights(np.ones(1), weights.gender)
        widths = probabilities = None
    if not female.shape[1]:
        female, weights = np.full((len(female), 1), np.nan), Weights(weights.age, np.ones(1))
    age, means = ages @ weights.age, ages
    if probabilities is not None and age_estimate != 'mean':
        means = np.einsum('nyk,y->nk', probabilities, np.arange(probabilities.shape[1]))
    probability = (female @ weights.gender).astype(np.float32)
    mixture = {}
    if widths is not None:
        spread = means - (means @ weights.age)[:, None]
        squares = np.asarray(widths, np.float64) ** 2 + spread**2
        mixture['age_width'] = np.sqrt(squares @ weights.age).astype(np.float32)
    if probabilities is not None:
        mixed = probabilities @ weights.age
        age = distributions.estimate(mixed, age_estimate, age)
        mixture['age_probabilities'] = mixed.astype(np.float32)
    votes = (is_female(female) == is_female(probability)[:, None]).astype(np.float64)
    votes[np.isnan(probability)] = np.nan
    return {
        'predicted_age': age.astype(np.float32),
        'female_probability': probability,
        'age_std': ages.std(axis=1).astype(np.float32),
        'gender_agreement': votes.mean(axis=1).astype(np.float32),
        **mixture,
    }


def combine_known(
    predicted: Mapping[str, np.ndarray], weights: Weights | None = None, age_estimate: str = 'mean'
) -> dict[str, np.ndarray]:
    """Combines the members that predict ages for ages, and those that predict genders for genders.

    Args:
      predicted: `predicted_age` and `female_probability` [N, K], NaN in the column of a member that
        does not predict it, maybe `age_width` [N, K] and `age_probabilities` [N, years, K].
      weights: As for `combine`, of all members.
      age_estimate: As for `combine`.

    Returns:
      As `combine`; what no member predicts is NaN.
    """
    ages, female = predicted['predicted_age'], predicted['female_probability']
    of_age, of_gender = _predicting(ages), _predicting(female)
    if weights:
        weights = weights.of(of_age, of_gender)
    widths, probabilities = (
        predicted[name][..., of_age] if name in predicted else None
        for name in ('age_width', 'age_probabilities')
    )
    return combine(
        ages[:, of_age], female[:, of_gender], weights, widths, probabilities, age_estimate
    )


def _predicting(values: np.ndarray) -> np.ndarray:
    """Which of the K members [N, K] predict anything, bool [K]."""
    return ~np.isnan(values).all(axis=0)


def fit_weights(ages: np.ndarray, female: np.ndarray, labels: Mapping[str, np.ndarray]) -> Weights:
    """Finds the weights with the smallest mean error of age and gender cross-entropy.

    Call it with labels of the validation split, never with those of the test split.

    Both are convex in the weights: the first is a linear program, the second smooth.

    Args:
      ages: Predicted ages [N, K] in years.
      female: Female probabilities [N, K].
      labels: True ages [N] in years, NaN where unknown, as `outcomes.age_bounds` reads them, and
        `gender` [N], -1 where unknown.

    Returns:
      The weights. Members count equally for ages if no age is known, and likewise for genders; one
      that predicts none, a column of NaN, does not count.
    """
    low, high = (bound.astype(np.float64) for bound in age_bounds(labels))
    known, gender = ~np.isnan(low), labels['gender']
    of_true = np.where(gender[:, None] == 1, female, 1 - female)[gender >= 0].astype(np.float64)
    weights = Weights(np.zeros(ages.shape[1]), np.zeros(ages.shape[1]))
    of_age, of_gender = _predicting(ages), _predicting(female)
    weights.age[of_age] = _least_absolute(
        ages[known][:, of_age].astype(np.float64), low[known], high[known]
    )
    weights.gender[of_gender] = _least_entropy(of_true[:, of_gender])
    return weights


def _least_absolute(predicted: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Weights [K] on the simplex with the least mean distance of predicted @ weights to ranges."""
    from scipy import optimize  # Slow to import, and rarely needed.

    n, k = predicted.shape
    if not n:
        return uniform(k).age
    weights = np.zeros(k)
    tame = (np.abs(predicted) <= _WILD).all(axis=0)
    if not tame.any():
        return uniform(k).age
    predicted = predicted[:, tame]
    # The dual has k constraints instead of n, which is far faster: max c - y @ target / n with
    # c <= y @ predicted / n for each member and |y| <= 1. Its multipliers are the weights. A range
    # has one y for each end that it has: it is above the one, or below the other.
    exact, has_end = low == high, (low < high) & np.isfinite(high)
    parts = [(low, exact, (-1, 1)), (high, has_end, (0, 1)), (low, ~exact, (-1, 0))]
    target = np.concatenate([values[which] for values, which, _ in parts])
    predicted = np.concatenate([predicted[which] for _, which, _ in parts])
    bounds = [limits for _, which, limits in parts for _ in range(which.sum())]
    result = optimize.linprog(
        np.append(target / n, -1.0),
        A_ub=np.concatenate([-predicted.T / n, np.ones((tame.sum(), 1))], axis=1),
        b_ub=np.zeros(tame.sum()),
        bounds=[*bounds, (None, None)],
        method='highs',
    )
    weights[tame] = _onto_simplex(-result.ineqlin.marginals)
    return weights


def _least_entropy(of_true: np.ndarray) -> np.ndarray:
    """Weights [K] on the simplex with the least mean -log(of_true @ weights)."""
    from scipy import optimize

    n, k = of_true.shape
    start = uniform(k).gender
    if not n or not k:
        return start

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(of_true @ weights, 1e-12)
        return float(-np.log(mixed).mean()), -(of_true / mixed[:, None]).mean(axis=0)

    result = optimize.minimize(
        loss,
        start,
        jac=True,
        bounds=[(0, 1)] * k,
        constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1, 'jac': lambda w: np.ones(k)},
        method='SLSQP',
    )
    return _onto_simplex(result.x)


def _onto_simplex(weights: np.ndarray) -> np.ndarray:
    """Takes off what rounding has left below zero, or of a sum other than 1."""
    weights = np.maximum(weights, 0)
    return weights / weights.sum()
