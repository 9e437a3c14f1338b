"""What trained models, and each of their members, predict for a whole split."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow_datasets as tfds

from hybrid.runs import trained
from hybrid.runs.trained import Trained
from hybrid.training.eval_step import predict_split

_LOG = logging.getLogger(__name__)


def predict_members(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    predict: Callable[[Trained], dict[str, np.ndarray]] | None = None,
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Predicts every example of a split with every member of every model.

    Args:
      models: One, or several.
      builder: The prepared dataset.
      split: The split of it.
      predict: What gives the rows of `predict_split` of one of them; None for that itself, which
        reads the split.

    Returns:
      The columns of `create_eval_step` and the numbers of the members: of one model [N] and no
      numbers, of an ensemble or of several models [N, K] and K numbers. Members that were frozen
      are left out, and those that predict a number that is not finite, unless all do. What a model
      does not predict is NaN.
    """

    def read_and_predict(model: Trained) -> dict[str, np.ndarray]:
        return predict_split(model.learner.eval_step, model.variables, builder, split, model.config)

    predicted = [(predict or read_and_predict)(model) for model in models]
    for model, columns in zip(models, predicted, strict=True):
        del columns['index']
        for name, column in columns.items():
            if trained.kind_of(name) not in model.predicts:
                column[...] = np.nan
    if len(models) == 1 and not models[0].learner.is_ensemble:
        return predicted[0], []
    numbers = trained.member_numbers(models)
    of_each = [
        {name: x if model.learner.is_ensemble else x[..., None] for name, x in columns.items()}
        for model, columns in zip(models, predicted, strict=True)
    ]
    # A model of genders need not have the age head of a model of ages.
    shapes = {name: x.shape[:-1] for columns in of_each for name, x in columns.items()}
    for model, columns in zip(models, of_each, strict=True):
        for name in shapes.keys() - columns.keys():
            if trained.kind_of(name) not in model.predicts:
                columns[name] = np.full((*shapes[name], len(model.learner.members)), np.nan)
    joined = {
        name: np.concatenate([columns[name] for columns in of_each], axis=-1)
        for name in shapes
        if all(name in columns for columns in of_each)
    }
    kept = np.array([number is not None for number in numbers])
    predicts = [model.predicts for model in models for _ in model.learner.members]
    finite = np.ones(len(numbers), bool)
    for name in ('predicted_age', 'female_probability'):
        predicting = np.array([trained.kind_of(name) in kinds for kinds in predicts])
        finite &= ~predicting | np.isfinite(joined[name]).all(axis=0)
    for place in np.flatnonzero(kept & ~finite):
        _LOG.warning('member %d predicts no finite number: left out', numbers[place])
    if (kept & finite).any():
        kept &= finite
    members = [n for n, keep in zip(numbers, kept, strict=True) if keep and n is not None]
    return {name: column[..., kept] for name, column in joined.items()}, members
