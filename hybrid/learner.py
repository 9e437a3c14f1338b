"""What a run trains: one model here, the members of an ensemble in ensemble.py, behind one face."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
import optax
from clu import parameter_overview
from ml_collections import ConfigDict

from hybrid import parallel, train_step
from hybrid.eval_step import create_eval_step
from hybrid.models.hybrid import create_model
from hybrid.train_state import (
    TrainState,
    abstract_train_state,
    create_train_state,
    num_params,
)


class Learner(Protocol):
    """What the main loops know of a model or of an ensemble.

    Attributes:
      members: Numbers of the members, in the order of their columns; (0,) for one model.
      is_ensemble: Whether the rows of `eval_step` have a column for each member.
    """

    members: tuple[int, ...]
    is_ensemble: bool

    def create_state(self) -> Any:
        """A tree of arrays: the state before the first step."""

    def abstract_state(self) -> Any:
        """The shapes and types of that, as jax.ShapeDtypeStruct."""

    def overview(self, state: Any) -> str:
        """The parameters as a table."""

    def train_step(self, state: Any, batch: Mapping[str, jax.Array]) -> tuple[Any, Any]:
        """Trains on a batch of `parallel.shard_batch`; consumes the state."""

    def summarize(self, metrics: list[Any], state: Any) -> dict[str, float]:
        """What the metrics of several steps come to, as a row of metrics.jsonl."""

    def nonfinite_steps(self, state: Any) -> np.ndarray:
        """The first step of each member that was not finite, int [K]; -1 where there is none."""

    def eval_variables(self, state: Any) -> Any:
        """What `eval_step` takes."""

    def eval_step(self, variables: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Rows of `eval_step.create_eval_step` for every example; [..., K] if `is_ensemble`."""


class SingleModel:
    """One model; its state is a TrainState.

    Args:
      config: Of the run.
      tx: The optimiser.
    """

    members: tuple[int, ...] = (0,)
    is_ensemble: bool = False

    def __init__(self, config: ConfigDict, tx: optax.GradientTransformation):
        model = create_model(config.model, axis_name=parallel.AXIS)
        step = train_step.create_train_step(model, tx, config)
        self.create_state = lambda: create_train_state(model, tx, config)
        self.abstract_state = lambda: abstract_train_state(model, tx, config)
        self.train_step = parallel.compile_train_step(step)
        self.eval_step = parallel.compile_eval_step(create_eval_step(model, config))

    def overview(self, state: TrainState) -> str:
        """See `Learner`."""
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        return f'{num_params(state.params):,} parameters\n{table}'

    def summarize(self, metrics: list[Any], state: TrainState) -> dict[str, float]:
        """See `Learner`."""
        del state
        averages = train_step.average(metrics)
        return {f'train/{name}': float(value) for name, value in averages.items()}

    def nonfinite_steps(self, state: TrainState) -> np.ndarray:
        """See `Learner`."""
        return np.array([int(state.nonfinite_step)])

    def eval_variables(self, state: TrainState) -> dict[str, Any]:
        """See `Learner`."""
        return state.eval_variables
