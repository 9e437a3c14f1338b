"""The few scores that a training watches, and what chooses its best checkpoint."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from hybrid.scores import combination, outcomes

# Scores by which the best checkpoint is chosen: the run's under None, each member's by its number.
Chosen = dict[int | None, float]


def validation_metrics(
    rows: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
    config: ConfigDict,
    members: Sequence[int] = (),
) -> dict[str, float]:
    """Computes the few scores that a training watches.

    Args:
      rows: What `predictions.predict_members` gives.
      columns: From `records.read_columns`, of the same split.
      config: The config of the run.
      members: Numbers of the members of an ensemble; empty for a single model.

    Returns:
      `loss` (that of the training, over the whole split, but without the weights of `data.balance`
      and with the examples that `loss.forget_rate` leaves out), `age/mae` in years and
      `gender/accuracy`; the latter two are NaN where no label is known. Where some ages are ranges,
      `age/interval_error` in years, too. For an ensemble the loss is the mean over the members, the
      others are those of the combined predictions, and each member's own scores are under
      `member_<number>/...`.
    """
    if members:
        of_members = [
            validation_metrics({n: c[..., k] for n, c in rows.items()}, columns, config)
            for k in range(len(members))
        ]
        estimate = config.evaluate.age_estimate
        combined = combination.combine_known(rows, age_estimate=estimate)
        losses = {name: rows[name].mean(axis=1) for name in ('age_loss', 'gender_loss')}
        scores = validation_metrics(combined | losses, columns, config)
        for number, own in zip(members, of_members, strict=True):
            scores |= {f'member_{number}/{name}': value for name, value in own.items()}
        return scores
    low, high = outcomes.age_bounds(columns)
    error = outcomes.absolute_age_error(rows['predicted_age'], low, high)
    ranges = {'age/interval_error': outcomes.mean(error[low < high])} if (low < high).any() else {}
    known = outcomes.is_scored(rows['female_probability'], columns['gender'])
    right = outcomes.is_right(rows['female_probability'], columns['gender'])[known]

    def mean_loss(values: np.ndarray) -> float:
        values = values[~np.isnan(values)]
        return outcomes.mean(values) if values.size else 0.0

    return {
        'loss': config.loss.age_weight * mean_loss(rows['age_loss'])
        + config.loss.gender_weight * mean_loss(rows['gender_loss']),
        'age/mae': outcomes.mean(error[low == high]),
        **ranges,
        'gender/accuracy': outcomes.mean(right),
    }


def selection_score(
    scores: Mapping[str, float],
    columns: dict[str, np.ndarray],
    predicts: Sequence[str] = ('age', 'gender'),
) -> float | None:
    """Computes the number by which the best checkpoint is chosen; the lower, the better.

    Args:
      scores: From `validation_metrics`.
      columns: From `records.read_columns`, of the same split.
      predicts: What the run learns, 'age', 'gender' or both.

    Returns:
      The mean error of all ages in years: the MAE, or the interval error where all are ranges, or
      both together. The share of wrong genders where no age is known or learnt. None when that is
      not finite, so that the state cannot become the best.
    """
    low, high = outcomes.age_bounds(columns)
    exact, ranges = int((low == high).sum()), int((low < high).sum())
    if 'age' not in predicts:
        exact = ranges = 0
    if exact and ranges:
        total = exact * scores['age/mae'] + ranges * scores['age/interval_error']
        score = total / (exact + ranges)
    elif exact or ranges:
        score = scores['age/mae' if exact else 'age/interval_error']
    else:
        score = 1 - scores['gender/accuracy']
    return score if math.isfinite(score) else None


def average(of_each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The scores of each of several datasets under its name, and their means.

    Args:
      of_each: From `validation_metrics`, by the names of the datasets.

    Returns:
      `<dataset>/<score>`, and for each score its mean over the datasets that have it, NaN if none.
    """
    scores = {f'{name}/{key}': v for name, own in of_each.items() for key, v in own.items()}
    for key in dict.fromkeys(key for own in of_each.values() for key in own):
        known = [own[key] for own in of_each.values() if not math.isnan(own.get(key, math.nan))]
        scores[key] = sum(known) / len(known) if known else math.nan
    return scores


def average_chosen(of_each: Sequence[Chosen]) -> Chosen:
    """The means of what `selection_scores` gives for several datasets.

    A score that one of them lacks is left out, so that such a state cannot become the best.
    """
    return {
        number: sum(scores[number] for scores in of_each) / len(of_each)
        for number in of_each[0]
        if all(number in scores for scores in of_each)
    }


def selection_scores(
    scores: dict[str, float],
    columns: dict[str, np.ndarray],
    members: Sequence[int] = (),
    predicts: Sequence[str] = ('age', 'gender'),
) -> Chosen:
    """Collects the scores to save with a checkpoint: the run's under None, each member's by number.

    Args:
      scores: From `validation_metrics`.
      columns: From `records.read_columns`, of the same split.
      members: As for `validation_metrics`.
      predicts: As for `selection_score`.
    """
    prefixes = {None: ''} | {number: f'member_{number}/' for number in members}
    found = {
        number: selection_score(
            {k.removeprefix(prefix): v for k, v in scores.items() if k.startswith(prefix)},
            columns,
            predicts,
        )
        for number, prefix in prefixes.items()
    }
    return {number: score for number, score in found.items() if score is not None}
