"""Which learner a config describes: the one place that knows both kinds."""

import optax
from ml_collections import ConfigDict

from hybrid.training.ensemble import Ensemble, is_ensemble
from hybrid.training.learner import Learner, SingleModel


def create(config: ConfigDict, tx: optax.GradientTransformation) -> Learner:
    """Creates what a config describes: one model, or an ensemble.

    Raises:
      ValueError: for what is wrong with `config.ensemble` or a model, naming the key.
    """
    return Ensemble(config, tx) if is_ensemble(config) else SingleModel(config, tx)
