"""What the members of an ensemble add to the scores: theirs, the curve over 1..K, disagreement.

NumPy over the rows of predictions.csv, which has columns `member_<number>_age` and
`member_<number>_female_probability`. Ages are in years, shares between 0 and 1.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hybrid.scores import bootstrap, metrics

# Subsets of one size whose scores make a point of the curve: all of them, or so many drawn ones.
MAX_SUBSETS = 256
NUM_QUANTILES = 5
SCORES = {'age/mae': 'age', 'gender/accuracy': 'gender'}


def member_numbers(rows: Mapping[str, Any]) -> list[int]:
    """Numbers of the members that rows have columns of, in order."""
    names = (name.removeprefix('member_').removesuffix('_age') for name in rows)
    return sorted(int(n) for n in names if n.isdecimal() and f'member_{n}_age' in rows)


def compute_metrics(rows: Mapping[str, Any], best_member: int | None = None) -> metrics.Scores:
    """Scores under flat keys, which go beside those of `metrics.compute_metrics`.

    - `member_<number>/...`: the scores of each member.
    - `members/<score>_mean`, `_median`, `_min`, `_max`: over members.
    - `curve/<k>/<score>_mean`, `_std`, `_min`, `_max` and `curve/<k>/num_subsets`: of ensembles of
      k of the members with equal weights, over their subsets.
    - `disagreement/age_std` (mean over examples), `gender_differs` (share of examples on whose
      gender not all members agree), `age_error_correlation` (Spearman's, of `age_std` and the
      ensemble's absolute error) and `quintile_<q>/...`: examples from least to most disagreement.
    - `best_member/number`, `best_member/<score>` and `minus_best_member/<score>`, the ensemble's
      score less that of the member that was best on validation, with its paired 95 % interval.

    Args:
      rows: As `metrics.canonical_rows` takes them, with members.
      best_member: Number of the best on validation, None if nobody knows.

    Returns:
      Counts as int, all else as float; NaN where undefined. Nothing if there are no members.
    """
    numbers = member_numbers(rows)
    if not numbers:
        return {}
    rows = metrics.canonical_rows(rows)
    order = np.argsort(rows['id'], kind='stable')
    rows = {name: column[order] for name, column in rows.items()}
    ages = np.stack([rows[f'member_{n}_age'] for n in numbers], -1).astype(np.float64)
    female = np.stack([rows[f'member_{n}_female_probability'] for n in numbers], -1)
    truth = _Truth(rows)

    scores: metrics.Scores = {}
    for place, number in enumerate(numbers):
        own = {'predicted_age': ages[:, place], 'female_probability': female[:, place]}
        of_member = metrics.prediction_scores(rows | own)
        scores |= {f'member_{number}/{name}': value for name, value in of_member.items()}
    for name in SCORES:
        values = np.array([scores[f'member_{number}/{name}'] for number in numbers], np.float64)
        for word, function in (
            ('mean', np.mean),
            ('median', np.median),
            ('min', np.min),
            ('max', np.max),
        ):
            scores[f'members/{name}_{word}'] = float(function(values))
    scores |= _curve(ages, female.astype(np.float64), truth)
    scores |= _disagreement(rows, truth)
    if best_member is not None:
        place = numbers.index(best_member)
        scores['best_member/number'] = best_member
        scores |= _against(rows, ages[:, place], female[:, place], truth)
    return scores


class _Truth:
    """Labels, where they are known, and per-example values of the two scores."""

    def __init__(self, rows: metrics.Rows):
        self.age = rows['age'].astype(np.float64)
        self.gender = rows['gender']
        self.known_age = ~np.isnan(self.age)
        self.known_gender = self.gender >= 0

    def errors(self, predicted: np.ndarray) -> np.ndarray:
        """Absolute age errors where the age is known."""
        return np.abs(predicted.astype(np.float64) - self.age)[self.known_age]

    def correct(self, female: np.ndarray) -> np.ndarray:
        """1 where a known gender is predicted, else 0."""
        return ((female > 0.5) == self.gender)[self.known_gender].astype(np.float64)

    def scores(self, predicted: np.ndarray, female: np.ndarray) -> dict[str, float]:
        return {
            'age/mae': _mean(self.errors(predicted)),
            'gender/accuracy': _mean(self.correct(female)),
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float('nan')


def subsets(count: int, size: int) -> Iterator[tuple[int, ...]]:
    """All subsets of `size` out of `count`, or MAX_SUBSETS that are drawn, always the same."""
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


def _curve(ages: np.ndarray, female: np.ndarray, truth: _Truth) -> metrics.Scores:
    scores: metrics.Scores = {}
    count = ages.shape[1]
    for size in range(1, count + 1):
        points = [
            truth.scores(ages[:, list(s)].mean(axis=1), female[:, list(s)].mean(axis=1))
            for s in subsets(count, size)
        ]
        scores[f'curve/{size}/num_subsets'] = len(points)
        for name in SCORES:
            values = np.array([point[name] for point in points])
            for word, function in (
                ('mean', np.mean),
                ('std', np.std),
                ('min', np.min),
                ('max', np.max),
            ):
                scores[f'curve/{size}/{name}_{word}'] = float(function(values))
    return scores


def _disagreement(rows: metrics.Rows, truth: _Truth) -> metrics.Scores:
    std = rows['age_std'].astype(np.float64)
    known = std[truth.known_age]
    errors = truth.errors(rows['predicted_age'])
    correct = truth.correct(rows['female_probability'])
    scores: metrics.Scores = {
        'disagreement/age_std': _mean(std),
        'disagreement/gender_differs': _mean((rows['gender_agreement'] < 1).astype(np.float64)),
        'disagreement/age_error_correlation': _rank_correlation(known, errors),
    }
    # By rank, so that equal values do not pile up in one of them; ties fall in the order of ids.
    order = np.argsort(known, kind='stable')
    for number, part in enumerate(np.array_split(order, NUM_QUANTILES), 1):
        key = f'disagreement/quintile_{number}'
        scores[f'{key}/num_examples'] = len(part)
        scores[f'{key}/age_std'] = _mean(known[part])
        scores[f'{key}/age/mae'] = _mean(errors[part])
    agreed = rows['gender_agreement'][truth.known_gender] >= 1
    for name, inside in (('agreed', agreed), ('differed', ~agreed)):
        scores[f'disagreement/gender_{name}/num_examples'] = int(inside.sum())
        scores[f'disagreement/gender_{name}/gender/accuracy'] = _mean(correct[inside])
    return scores


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation; NaN where one of them does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float('nan')
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)


def _against(
    rows: metrics.Rows, age: np.ndarray, female: np.ndarray, truth: _Truth
) -> metrics.Scores:
    """The ensemble's scores less a member's."""
    scores: metrics.Scores = {}
    for name, ensemble, member in (
        ('age/mae', truth.errors(rows['predicted_age']), truth.errors(age)),
        ('gender/accuracy', truth.correct(rows['female_probability']), truth.correct(female)),
    ):
        difference, low, high = bootstrap.paired_bootstrap(ensemble, member)
        scores[f'best_member/{name}'] = _mean(member)
        scores[f'minus_best_member/{name}'] = difference
        scores[f'minus_best_member/{name}_ci95_low'] = low
        scores[f'minus_best_member/{name}_ci95_high'] = high
    return scores
