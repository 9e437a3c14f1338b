"""Which learner a config describes: the one place that knows both kinds."""

import optax
from ml_collections import ConfigDict

from hybrid.training.ensemble import Ensemble
from hybrid.training.groups import is_ensemble
from hybrid.training.learner import Learner, SingleModel


def create(config: ConfigDict, learning_rate_fn: optax.Schedule) -> Learner:
    """Creates what a config describes: one model, or an ensemble.

    Args:
      config: Of the run.
      learning_rate_fn: Gives the learning rate of a step.

    Raises:
      ValueError: for what is wrong with `config.ensemble` or a model, naming the key.
    """
    create_learner = Ensemble if is_ensemble(config) else SingleModel
    return create_learner(config, learning_rate_fn)
