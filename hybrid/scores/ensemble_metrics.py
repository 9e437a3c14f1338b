"""Scores that only an ensemble has: its members' own, those of smaller ensembles, disagreement.

They are computed from the rows of predictions.csv, which has columns `member_<number>_age` and
`member_<number>_female_probability`. Ages are in years, shares are between 0 and 1.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from hybrid.scores import bootstrap, metrics, outcomes
from hybrid.scores.outcomes import mean
from hybrid.scores.rows import Rows

# How many subsets of one size make a point of the curve at most; if there are more, some are drawn.
MAX_SUBSETS = 256
NUM_QUANTILES = 5
SCORES = ('age/mae', 'gender/accuracy')
# Where ages are ranges there is one more.
INTERVAL_ERROR = 'age/interval_error'


def compute_metrics(rows: Rows, best_member: int | None = None) -> metrics.Scores:
    """Scores under flat keys, which go beside those of `metrics.compute_metrics`.

    - `member_<number>/...`: the scores of each member.
    - `members/<score>_mean`, `_median`, `_min`, `_max`: these of the members' scores.
    - `curve/<k>/<score>_mean`, `_std`, `_min`, `_max` and `curve/<k>/num_subsets`: the scores of
      ensembles of k members with equal weights, over the subsets of k members.
    - `disagreement/age_std` (mean over examples), `gender_differs` (share of examples on whose
      gender not all members agree), `age_error_correlation` (Spearman's, of `age_std` and the
      ensemble's absolute error) and `quintile_<q>/...`: examples from least to most disagreement.
      Of ages these are the exact ones.
    - `best_member/number`, `best_member/<score>` and `minus_best_member/<score>`, the ensemble's
      score less that of the member that was best on validation, with its paired 95 % interval.

    Args:
      rows: The examples, with what each member predicts.
      best_member: Number of the member that was best on validation, None if nobody knows.

    Returns:
      Counts as int, all else as float; NaN where undefined. Nothing if there are no members.
    """
    numbers = rows.members
    if not numbers:
        return {}
    rows = rows.by_id()
    of_members = [rows.of_member(number) for number in numbers]
    ages = np.stack([own['predicted_age'] for own in of_members], -1).astype(np.float64)
    female = np.stack([own['female_probability'] for own in of_members], -1)
    truth = _Truth(rows)

    scores: metrics.Scores = {}
    for number, own in zip(numbers, of_members, strict=True):
        of_member = metrics.prediction_scores(own)
        scores |= {f'member_{number}/{name}': value for name, value in of_member.items()}
    for name in truth.names:
        values = np.array([scores[f'member_{number}/{name}'] for number in numbers], np.float64)
        scores |= _summary(f'members/{name}', values, ('mean', 'median', 'min', 'max'))
    scores |= _curve(ages, female.astype(np.float64), truth)
    scores |= _disagreement(rows, truth)
    if best_member is not None:
        place = numbers.index(best_member)
        scores['best_member/number'] = best_member
        scores |= _against(rows, ages[:, place], female[:, place], truth)
    return scores


class _Truth:
    """Labels, where they are known, and per-example values of the two scores."""

    def __init__(self, rows: Rows):
        self.age, self.gender = rows['age'], rows['gender']
        self.known_age = ~np.isnan(self.age)
        self.known_gender = self.gender >= 0
        self.low, self.high = outcomes.age_bounds(rows)
        self.ranged = self.low < self.high
        self.names = (*SCORES, INTERVAL_ERROR) if self.ranged.any() else SCORES

    def errors(self, predicted: np.ndarray) -> np.ndarray:
        """Absolute age errors where the age is known."""
        return outcomes.absolute_age_error(predicted, self.age)[self.known_age]

    def distances(self, predicted: np.ndarray) -> np.ndarray:
        """Distances to ages that are ranges."""
        return outcomes.absolute_age_error(predicted, self.low, self.high)[self.ranged]

    def correct(self, female: np.ndarray) -> np.ndarray:
        """1 where a known gender is predicted, else 0; NaN where none is."""
        right = outcomes.is_right(female, self.gender)[self.known_gender].astype(np.float64)
        return np.where(np.isnan(female[self.known_gender]), np.nan, right)

    def scores(self, predicted: np.ndarray, female: np.ndarray) -> dict[str, float]:
        """MAE and accuracy, and the interval error if there is one."""
        found = {
            'age/mae': mean(self.errors(predicted)),
            'gender/accuracy': mean(self.correct(female)),
            INTERVAL_ERROR: mean(self.distances(predicted)),
        }
        return {name: found[name] for name in self.names}


def _summary(key: str, values: np.ndarray, words: Sequence[str]) -> metrics.Scores:
    """What NumPy's functions of these names say of the values, of those that are known if any is.

    A member that predicts ages alone has no score of genders.
    """
    known = values[~np.isnan(values)]
    return {
        f'{key}_{word}': float(getattr(np, word)(known if known.size else values)) for word in words
    }


def subsets(count: int, size: int) -> Iterator[tuple[int, ...]]:
    """Yields all subsets of `size` out of `count`, or MAX_SUBSETS drawn ones, always the same."""
    if math.comb(count, size) <= MAX_SUBSETS:
        yield from itertools.combinations(range(count), size)
        return
    rng = np.random.default_rng(0)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < MAX_SUBSETS:
        subset = tuple(sorted(int(i) for i in rng.choice(count, size, replace=False)))
        if subset not in seen:
            seen.add(subset)
            yield subset


def _mean_of(predicted: np.ndarray) -> np.ndarray:
    """The mean over the members [N, K] that predict this kind; NaN if none does."""
    columns = predicted[:, ~np.isnan(predicted).all(axis=0)]
    return (columns if columns.size else predicted).mean(axis=1)


def _curve(ages: np.ndarray, female: np.ndarray, truth: _Truth) -> metrics.Scores:
    scores: metrics.Scores = {}
    count = ages.shape[1]
    for size in range(1, count + 1):
        points = [
            truth.scores(_mean_of(ages[:, list(s)]), _mean_of(female[:, list(s)]))
            for s in subsets(count, size)
        ]
        scores[f'curve/{size}/num_subsets'] = len(points)
        for name in truth.names:
            values = np.array([point[name] for point in points])
            scores |= _summary(f'curve/{size}/{name}', values, ('mean', 'std', 'min', 'max'))
    return scores


def _disagreement(rows: Rows, truth: _Truth) -> metrics.Scores:
    std = rows['age_std'].astype(np.float64)
    known = std[truth.known_age]
    errors = truth.errors(rows['predicted_age'])
    correct = truth.correct(rows['female_probability'])
    agreement = rows['gender_agreement']
    differs = np.where(np.isnan(agreement), np.nan, agreement < 1)
    scores: metrics.Scores = {
        'disagreement/age_std': mean(std),
        'disagreement/gender_differs': mean(differs),
        'disagreement/age_error_correlation': _rank_correlation(known, errors),
    }
    # By rank, so that equal values do not pile up in one of them; ties fall in the order of ids.
    order = np.argsort(known, kind='stable')
    for number, part in enumerate(np.array_split(order, NUM_QUANTILES), 1):
        key = f'disagreement/quintile_{number}'
        scores[f'{key}/num_examples'] = len(part)
        scores[f'{key}/age_std'] = mean(known[part])
        scores[f'{key}/age/mae'] = mean(errors[part])
    of_known = differs[truth.known_gender]
    for name, inside in (('agreed', of_known == 0), ('differed', of_known == 1)):
        scores[f'disagreement/gender_{name}/num_examples'] = int(inside.sum())
        scores[f'disagreement/gender_{name}/gender/accuracy'] = mean(correct[inside])
    return scores


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation; NaN where one of them does not vary."""
    if len(a) < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):  # NaN where nothing is predicted
        return float('nan')
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)


def _against(rows: Rows, age: np.ndarray, female: np.ndarray, truth: _Truth) -> metrics.Scores:
    """The ensemble's scores less a member's."""
    scores: metrics.Scores = {}
    predicted = rows['predicted_age']
    values = {
        'age/mae': (truth.errors(predicted), truth.errors(age)),
        'gender/accuracy': (truth.correct(rows['female_probability']), truth.correct(female)),
        INTERVAL_ERROR: (truth.distances(predicted), truth.distances(age)),
    }
    for name in truth.names:
        ensemble, member = values[name]
        if np.isnan(ensemble).any():  # Not predicted.
            ensemble = member = np.empty(0)
        difference, low, high = bootstrap.paired_bootstrap(ensemble, member)
        scores[f'best_member/{name}'] = mean(member)
        scores[f'minus_best_member/{name}'] = difference
        scores[f'minus_best_member/{name}_ci95_low'] = low
        scores[f'minus_best_member/{name}_ci95_high'] = high
    return scores
