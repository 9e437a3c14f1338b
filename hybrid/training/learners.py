"""Which learner a config describes: the one place that knows both kinds."""

from collections.abc import Sequence

import optax
from ml_collections import ConfigDict

from hybrid.training.ensemble import Ensemble
from hybrid.training.groups import is_ensemble
from hybrid.training.learner import Learner, SingleModel


def create(
    config: ConfigDict,
    learning_rate_fn: optax.Schedule,
    age_weights: Sequence[float] | None = None,
) -> Learner:
    """Creates what a config describes: one model, or an ensemble.

    Args:
      config: Of the run.
      learning_rate_fn: Gives the learning rate of a step.
      age_weights: As for `train_step.create_train_step`; only training needs them.

    Raises:
      ValueError: for what is wrong with `config.ensemble` or a model, naming the key.
    """
    create_learner = Ensemble if is_ensemble(config) else SingleModel
    return create_learner(config, learning_rate_fn, age_weights)
