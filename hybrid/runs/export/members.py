"""The networks of an export, each with its parameters and its share in what is said together."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid.models.network import Hybrid, create_model
from hybrid.runs import trained
from hybrid.runs.trained import Trained
from hybrid.scores import combination
from hybrid.training.groups import all_groups


@dataclasses.dataclass(frozen=True)
class Member:
    """A network that counts: one of an ensemble, or that of a workdir.

    Attributes:
      number: Its number among all members, those that do not count included.
      model: What it is a member of.
      config: That of a single model, in float32 and by XLA's own convolutions.
      variables: `params` and `batch_stats`, float32 NumPy arrays.
    """

    number: int
    model: Trained
    config: ConfigDict
    variables: dict[str, Any]

    @property
    def name(self) -> str:
        """What the names of its parameters begin with in files."""
        return f'member_{self.number}'

    def network(self) -> Hybrid:
        """Its Flax module."""
        return create_model(self.config.model, axis_name=None)


def find(models: Sequence[Trained]) -> list[Member]:
    """The members of models that count: none that was frozen in training."""
    numbers = trained.member_numbers(models)
    members = []
    for model in models:
        variables = jax.device_get(model.variables)
        for group in all_groups(model.config):
            config = group.config.copy_and_resolve_references()
            config.model.dtype, config.model.kernels = 'float32', 'xla'
            for place in range(len(group.members)):
                number = numbers.pop(0)
                if number is None:
                    continue
                own = variables
                if model.learner.is_ensemble:
                    own = jax.tree.map(lambda x, k=place: x[k], variables[group.name])
                own = jax.tree.map(lambda x: np.asarray(x, np.float32), own)
                members.append(Member(number, model, config, own))
    return members


@dataclasses.dataclass(frozen=True)
class Shares:
    """How members are combined.

    Attributes:
      together: Whether there are several, or an ensemble: then there are columns such as `age_std`.
      age: Weights of the members that predict ages.
      gender: Weights of those that predict genders.
      predicts: For each kind, the places of the members that predict it.
    """

    together: bool
    age: np.ndarray
    gender: np.ndarray
    predicts: dict[str, list[int]]


def shares(
    models: Sequence[Trained], members: Sequence[Member], weights: combination.Weights | None
) -> Shares:
    """How much each member counts, as `runs.predictor` has it.

    Args:
      models: What is exported.
      members: From `find`.
      weights: From `member_weights.find`.
    """
    predicting = {
        kind: np.array([kind in member.model.predicts for member in members])
        for kind in trained.KINDS
    }
    places = {kind: np.flatnonzero(which).tolist() for kind, which in predicting.items()}
    if weights is None:
        of_kinds = (combination.uniform(len(p)).age for p in places.values())
        chosen = combination.Weights(*of_kinds)
    else:
        chosen = weights.of(*predicting.values())
    together = len(models) > 1 or models[0].learner.is_ensemble
    return Shares(together, chosen.age, chosen.gender, places)
