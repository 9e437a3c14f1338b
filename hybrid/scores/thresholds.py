"""How estimated ages err about an age limit, such as 18: counted, not advised to decide by.

The figures are those of NIST's age estimation and verification test: Hanaoka et al., Face Analysis
Technology Evaluation: Age Estimation and Verification, NIST IR 8525, 2024, and the tables that
https://pages.nist.gov/frvt/html/frvt_age_estimation.html keeps up to date. Somebody passes who is
estimated at the challenge age or older, which is the limit or, as in "Challenge 25" for the limit
18, some years more. What NIST's large data do not need is settled here:

- Ages are completed years: 17.9 is under 18, and within 13 to 16 is from 13.0 to below 17.0. So is
  an estimate, and it is not rounded.
- An age that is a range counts where the range decides: 10-17 is under 18, 15-19 counts nowhere.
- The MAE of ages 18 to 30 is the mean over the MAEs of two genders at 13 ages, of one gender over
  13. With an empty cell it would be another figure, so there is none.
- Examples that the training split holds too are left out.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hybrid import files
from hybrid.scores import metrics, outcomes
from hybrid.scores.bootstrap import percentile_interval, resampled_means
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.rows import Rows
from hybrid.scores.subgroups import ALL, SMALLEST, wilson_interval

LIMITS = (18,)
# Challenge ages are the limit and up to so many years more; those with scores in metrics.json.
SPAN = 12
SHOWN = (0, 7, 12)
# Those nearest under a limit are looked at by themselves: 14 to 17.
NEAR = 4
MAE_AGES = range(18, 31)
MAE = f'mae_{MAE_AGES[0]}_{MAE_AGES[-1]}'
NUM_CELLS, NUM_UNDECIDED = f'{MAE}_num_cells', 'num_undecided'
# Estimated within the first: whose share is right, and whose is wrong, in completed years.
CHILDREN = (13, 16)
NO_CHILDREN = ((8, 12), (17, 22))


class Figure(NamedTuple):
    """A line of thresholds.csv.

    Attributes:
      limit: In years; None for a figure that belongs to no limit.
      challenge: In years, or None.
      group: `all`, `gender/female`, `ethnicity/asian`, `gender/female+ethnicity/asian`.
      figure: Its name.
      value: A share between 0 and 1, years, or a count; NaN if not given.
      low: The lower end of the 95 % interval: Wilson's of a share, bootstrap of the MAE. Or NaN.
      high: The upper end.
      n: Of how many examples it is.
    """

    limit: int | None
    challenge: int | None
    group: str
    figure: str
    value: float
    low: float
    high: float
    n: int


def under_name(limit: int) -> str:
    """What the rate among the oldest under the limit is called."""
    return f'false_positive_rate_{limit - NEAR}_{limit - 1}'


def child_names() -> list[str]:
    """What the shares estimated within `CHILDREN` are called: the right one, and the wrong ones."""
    names = ['true_positive_rate', *['false_positive_rate'] * len(NO_CHILDREN)]
    spans = (CHILDREN, *NO_CHILDREN)
    return [
        f'child_safety/{name}_{first}_{last}'
        for name, (first, last) in zip(names, spans, strict=True)
    ]


class _Group(NamedTuple):
    name: str
    inside: np.ndarray  # bool [N]
    genders: tuple[int, ...]
    crossed: bool


def compute(rows: Rows, limits: Sequence[int] = LIMITS) -> list[Figure]:
    """Counts all figures, of everybody, of each gender and subgroup, and of these crossed.

    `false_positive_rate` is the share of those under the limit who are estimated at the challenge
    age or older, `false_positive_rate_14_17` (for 18) that of the oldest of them, and
    `false_negative_rate` the share of those of the limit or older who are estimated under the
    challenge age. `num_undecided` counts ages that are ranges about the limit. The interval of the
    MAE is by bootstrap within each cell, NaN where a cell has one example or all have fewer than
    `SMALLEST`. Of gender crossed with another subgroup, the value is NaN for `n < SMALLEST`.

    Args:
      rows: The examples of a split; their order has no effect.
      limits: In whole years.

    Returns:
      The figures; nothing of a limit under which, or from which on, there is nobody of known age
      with an estimate, and nothing at all if that is so of every limit.
    """
    rows = rows.by_id().without_leaks()
    low, high = (bound.astype(np.float64) for bound in outcomes.age_bounds(rows))
    predicted = rows['predicted_age'].astype(np.float64)
    known = ~np.isnan(low) & ~np.isnan(predicted)
    rows, low, high, predicted = rows.take(known), low[known], high[known], predicted[known]
    split = [limit for limit in limits if (high < limit).any() and (low >= limit).any()]
    if not split:
        return []
    found = []
    for limit in split:
        if undecided := int(((low < limit) & (high >= limit)).sum()):
            cells = (float(undecided), np.nan, np.nan, len(low))
            found.append(Figure(limit, None, ALL, NUM_UNDECIDED, *cells))
    rates = list(_rates(low, high, predicted, split))
    exact = low == high
    cell = np.where(exact & (rows['gender'] >= 0), np.floor(np.where(exact, low, -1)), -1)
    error = outcomes.absolute_age_error(predicted, low)
    for group in _groups(rows):
        for of_limit, challenge, name, who, hit in rates:
            hits = hit[who & group.inside]
            count, right = len(hits), int(hits.sum())
            value, ends = outcomes.mean(hits), wilson_interval(right, count)
            if group.crossed and count < SMALLEST:
                value, ends = np.nan, (np.nan, np.nan)
            found.append(Figure(of_limit, challenge, group.name, name, value, *ends, count))
        of_cells = [
            error[group.inside & (cell == age) & (rows['gender'] == gender)]
            for gender in group.genders
            for age in MAE_AGES
        ]
        found += _mae(group, of_cells)
    return found


def _rates(
    low: np.ndarray, high: np.ndarray, predicted: np.ndarray, limits: Sequence[int]
) -> Iterator[tuple[int | None, int | None, str, np.ndarray, np.ndarray]]:
    """Yields limit, challenge age, name, whom it is about and who of all is a hit, bool `[N]`."""
    for limit in limits:
        under, over = high < limit, low >= limit
        near = under & (low >= limit - NEAR)
        for challenge in range(limit, limit + SPAN + 1):
            passes = predicted >= challenge
            yield limit, challenge, 'false_positive_rate', under, passes
            yield limit, challenge, under_name(limit), near, passes
            yield limit, challenge, 'false_negative_rate', over, ~passes
    first, last = CHILDREN
    within = (predicted >= first) & (predicted < last + 1)
    for name, (first, last) in zip(child_names(), (CHILDREN, *NO_CHILDREN), strict=True):
        yield None, None, name, (low >= first) & (high < last + 1), within


def _groups(rows: Rows) -> Iterator[_Group]:
    """Yields the groups that occur."""
    both = tuple(range(len(GENDERS)))
    yield _Group(ALL, np.ones(rows.num_examples, bool), both, False)
    of_genders = [
        _Group(f'gender/{name}', rows['gender'] == k, (k,), False) for k, name in enumerate(GENDERS)
    ]
    of_genders = [group for group in of_genders if group.inside.any()]
    yield from of_genders
    kinds = metrics.subgroups(rows)
    for kind in rows.subgroups:
        values, labels = kinds[kind]
        for value in values:
            inside = labels == value
            yield _Group(f'{kind}/{value}', inside, both, False)
            for group in of_genders:
                crossed = inside & group.inside
                if crossed.any():
                    yield _Group(f'{group.name}+{kind}/{value}', crossed, group.genders, True)


def _mae(group: _Group, cells: Sequence[np.ndarray]) -> Iterator[Figure]:
    """Yields the mean of the means of absolute errors, and how many cells are filled."""
    sizes = np.array([len(cell) for cell in cells])
    count = int(sizes.sum())
    value, ends = np.nan, (np.nan, np.nan)
    if sizes.min() > 0 and not (group.crossed and count < SMALLEST):
        value = float(np.mean([outcomes.mean(cell) for cell in cells]))
        if sizes.min() > 1 and count >= SMALLEST:
            # Each cell with draws of its own: with the same they would vary together.
            resamples = [resampled_means(cell[None], seed=k)[0] for k, cell in enumerate(cells)]
            ends = percentile_interval(np.mean(resamples, axis=0))
    yield Figure(None, None, group.name, MAE, value, *ends, count)
    filled = float((sizes > 0).sum())
    yield Figure(None, None, group.name, NUM_CELLS, filled, np.nan, np.nan, count)


def to_csv(figures: Sequence[Figure]) -> str:
    """The figures as CSV, a line each; what is not given is an empty cell."""

    def shown(cell: object) -> object:
        return cell if not isinstance(cell, float) else '' if np.isnan(cell) else f'{cell:.6g}'

    return files.to_csv(Figure._fields, *(map(shown, figure) for figure in figures))


def to_metrics(figures: Sequence[Figure]) -> metrics.Scores:
    """The scores of everybody for metrics.json: a few challenge ages and what has no limit.

    Returns:
      `thresholds/18/challenge_25/false_positive_rate` and so on, `thresholds/child_safety/...` and
      `thresholds/mae_18_30`, each with `_ci95_low`, `_ci95_high` and `_num_examples`.
    """
    scores: metrics.Scores = {}
    for limit, challenge, group, name, value, low, high, count in figures:
        if group != ALL:
            continue
        key = f'thresholds/{name}' if limit is None else f'thresholds/{limit}/{name}'
        if name in (NUM_CELLS, NUM_UNDECIDED):
            scores[key] = int(value)
            continue
        if limit is not None and challenge is not None:
            if challenge - limit not in SHOWN:
                continue
            key = f'thresholds/{limit}/challenge_{challenge}/{name}'
        scores |= {key: value, f'{key}_ci95_low': low, f'{key}_ci95_high': high}
        scores[f'{key}_num_examples'] = count
    return scores
