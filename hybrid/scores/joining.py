"""Joins predictions with labels, subgroups and the constant predictor: one row an example."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrid.scores import combination, distributions, outcomes, rows


def join(
    predicted: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    constant: Mapping[str, Any],
    subgroups: Mapping[str, Sequence[str]],
    members: Sequence[int] = (),
    weights: combination.Weights | None = None,
    age_estimate: str = 'mean',
) -> rows.Rows:
    """Joins predictions with labels.

    Args:
      predicted: Columns [N], or [N, K] of K members; those that `rows.OF_MODELS` declares are
        taken.
      labels: From `records.read_columns`, of the same split, and `leak` bool [N] if there
        may be leaks.
      constant: What the constant predictor says: `constant_age` in years, None if unknown, and
        `constant_gender`, -1 if unknown; a run's dataset.json holds both.
      subgroups: Which of the labels name subgroups, and what their values 0, 1, ... are called;
        -1 is unknown.
      members: Numbers of the members if there are any.
      weights: With which members are combined; None for equal ones.
      age_estimate: As for `combination.combine`; `age_probabilities` are used for that
        and for `age_crps`.

    Raises:
      ValueError: as `rows.create`.
    """
    count = len(labels['id'])
    predictions = {name: predicted[name] for name in rows.OF_MODELS if name in predicted}
    distribution = predicted.get('age_probabilities')
    if members:
        own = predictions
        predictions = combination.combine_known(predicted, weights, age_estimate)
        distribution = predictions.pop('age_probabilities', None)
        for place, number in enumerate(members):
            for name, column in own.items():
                predictions[rows.member_column(number, name)] = column[:, place]
    low, high = outcomes.age_bounds(labels)
    if distribution is not None:
        exact = np.where(low == high, low, np.nan)
        predictions['age_crps'] = distributions.crps(distribution, exact)
    age = constant['constant_age']
    columns = {
        **{name: labels[name] for name in ('id', 'age', 'gender')},
        **predictions,
        'constant_age': np.full(count, np.nan if age is None else age, np.float32),
        'constant_gender': np.full(count, constant['constant_gender']),
    }
    if (low < high).any():
        columns |= {'age_min': low, 'age_max': high}
    for name, values in subgroups.items():
        columns[name] = np.array([*values, ''])[labels[name]]
    if 'leak' in labels:
        columns['leak'] = labels['leak']
    return rows.create(columns, list(subgroups))
