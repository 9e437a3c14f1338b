"""The few scores that a training watches, and what chooses its best checkpoint."""

import math
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from hybrid.scores import combination


def validation_metrics(
    rows: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
    config: ConfigDict,
    members: Sequence[int] = (),
) -> dict[str, float]:
    """The few scores that training watches.

    Args:
      rows: From `evaluate.predict_members`.
      columns: From `input_pipeline.read_columns`, of the same split.
      config: Of the run.
      members: Numbers of the members of an ensemble, whose columns the rows have.

    Returns:
      `loss` (the training's, over the whole split), `age/mae` in years and `gender/accuracy`; the
      latter two are NaN where no label is known. Of an ensemble these are of its combined
      predictions, but for the loss, which is the mean of the members'; theirs are under
      `member_<number>/...`.
    """
    if members:
        of_members = [
            validation_metrics({n: c[:, k] for n, c in rows.items()}, columns, config)
            for k in range(len(members))
        ]
        combined = combination.combine(rows['predicted_age'], rows['female_probability'])
        losses = {name: rows[name].mean(axis=1) for name in ('age_loss', 'gender_loss')}
        scores = validation_metrics(combined | losses, columns, config)
        for number, own in zip(members, of_members, strict=True):
            scores |= {f'member_{number}/{name}': value for name, value in own.items()}
        return scores
    known = ~np.isnan(columns['age'])
    error = np.abs(rows['predicted_age'].astype(np.float64) - columns['age'])[known]
    known = columns['gender'] >= 0
    right = (rows['female_probability'] > 0.5)[known] == columns['gender'][known]

    def mean(values):
        values = values[~np.isnan(values)]
        return float(np.mean(values, dtype=np.float64)) if values.size else 0.0

    return {
        'loss': config.loss.age_weight * mean(rows['age_loss'])
        + config.loss.gender_weight * mean(rows['gender_loss']),
        'age/mae': float(error.mean()) if error.size else float('nan'),
        'gender/accuracy': float(right.mean()) if right.size else float('nan'),
    }


def selection_score(scores: dict[str, float], columns: dict[str, np.ndarray]) -> float | None:
    """What the best checkpoint is chosen by, the lower the better.

    Args:
      scores: From `validation_metrics`.
      columns: From `input_pipeline.read_columns`, of the same split.

    Returns:
      The age MAE in years; where no age is known, the share of wrong genders; None when that is not
      finite, so that the state cannot become the best.
    """
    any_age = not np.isnan(columns['age']).all()
    score = scores['age/mae'] if any_age else 1 - scores['gender/accuracy']
    return score if math.isfinite(score) else None


def selection_scores(
    scores: dict[str, float], columns: dict[str, np.ndarray], members: Sequence[int] = ()
) -> dict[int | None, float]:
    """Scores to save with a checkpoint: the run's under None, those of members by number.

    Args:
      scores: From `validation_metrics`.
      columns: From `input_pipeline.read_columns`, of the same split.
      members: As for `validation_metrics`.
    """
    prefixes = {None: ''} | {number: f'member_{number}/' for number in members}
    found = {
        number: selection_score(
            {name: scores[prefix + name] for name in ('age/mae', 'gender/accuracy')}, columns
        )
        for number, prefix in prefixes.items()
    }
    return {number: score for number, score in found.items() if score is not None}
