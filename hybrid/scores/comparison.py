"""Two models on the same examples: differences of scores with their paired bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

from hybrid.scores import bootstrap, metrics, outcomes
from hybrid.scores.rows import Rows


def compare(a: Sequence[Rows], b: Sequence[Rows]) -> metrics.Scores:
    """Scores of the runs `a` less those of the runs `b`.

    Args:
      a: Rows of one run, as `read_predictions` gives them, or of several, such as seeds. Of
        several, each example counts with the mean of their errors.
      b: Likewise.

    Returns:
      The differences of `age/mae` (years), `age/interval_error` (years, of ages that are ranges)
      and `gender/accuracy`, each with the ends of its 95 % interval and the number of examples with
      known labels, over which it is taken. What no example has a label for is left out, and what
      one of the runs does not predict.

    Raises:
      ValueError: when they are not the same examples with the same labels.
    """
    a, b = [rows.by_id() for rows in a], [rows.by_id() for rows in b]
    check_same_examples([*a, *b])
    labels = a[0]
    low, high = outcomes.age_bounds(labels)

    def error(rows: Rows) -> np.ndarray:
        return outcomes.absolute_age_error(rows['predicted_age'], low, high)

    def right(rows: Rows) -> np.ndarray:
        values = outcomes.is_right(rows['female_probability'], labels['gender']).astype(np.float64)
        return np.where(np.isnan(rows['female_probability']), np.nan, values)

    scores: metrics.Scores = {}
    for name, value, known in (
        ('age/mae', error, low == high),
        ('age/interval_error', error, low < high),
        ('gender/accuracy', right, labels['gender'] >= 0),
    ):
        one, other = (np.mean([value(rows)[known] for rows in runs], axis=0) for runs in (a, b))
        if not known.any() or np.isnan(one).any() or np.isnan(other).any():
            continue
        difference, low_end, high_end = bootstrap.paired_bootstrap(one, other)
        scores |= {
            name: difference,
            f'{name}_ci95_low': low_end,
            f'{name}_ci95_high': high_end,
            f'{name}_num_examples': int(known.sum()),
        }
    return scores


def check_same_examples(runs: Sequence[Rows]) -> None:
    """Checks that runs were evaluated on the same examples with the same labels.

    Args:
      runs: Their rows, in the order of the ids.

    Raises:
      ValueError: when they were not.
    """
    labels = runs[0]
    low, high = outcomes.age_bounds(labels)
    for rows in runs:
        same = {
            'id': np.array_equal(rows['id'], labels['id']),
            'age': all(map(_equal, outcomes.age_bounds(rows), (low, high))),
            'gender': np.array_equal(rows['gender'], labels['gender']),
        }
        for name in same:
            if not same[name]:
                raise ValueError(
                    f'the runs were not evaluated on the same examples: {name} differs. Evaluate '
                    'all of them on one split of one version of the dataset'
                )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)
