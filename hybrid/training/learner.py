"""What a run trains: one model here, the members of an ensemble in ensemble.py, behind one face."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import optax
from clu import parameter_overview
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.training import finetuning, train_step
from hybrid.training.eval_step import create_eval_step, create_predict_step
from hybrid.training.optimizer import create_optimizer
from hybrid.training.train_state import (
    TrainState,
    abstract_train_state,
    create_train_state,
    num_params,
)


class Learner(Protocol):
    """What the main loops know of a model or of an ensemble.

    Attributes:
      members: Numbers of the members, in the order of their columns; (0,) for one model.
      is_ensemble: Whether what `predict_step` and `eval_step` return has a column for each member.
    """

    members: tuple[int, ...]
    is_ensemble: bool

    def create_state(self) -> Any:
        """A tree of arrays, as checkpoints hold it: the state before the first step."""

    def abstract_state(self) -> Any:
        """The shapes and types of that, as jax.ShapeDtypeStruct."""

    def place(self, state: Any) -> Any:
        """What is on every device, as checkpoints hold it, in the form that `train_step` takes."""

    def to_save(self, state: Any) -> Any:
        """The other way round."""

    def overview(self, state: Any) -> str:
        """The parameters as a table, of a state as checkpoints hold it."""

    def train_step(
        self, state: Any, batch: Mapping[str, jax.Array], number: int = 1
    ) -> tuple[Any, Any]:
        """Trains on a batch of `devices.shard_batch`, as step of that number; consumes the state.

        What is frozen for some steps is so by this number, from 1.
        """

    def summarize(self, metrics: list[Any], state: Any) -> dict[str, float]:
        """What the metrics of several steps come to, as a row of metrics.jsonl."""

    def nonfinite_steps(self, state: Any) -> np.ndarray:
        """The first step of each member that was not finite, int [K]; -1 where there is none.

        Of a state in either form, as `eval_variables`.
        """

    def eval_variables(self, state: Any) -> Any:
        """What `predict_step` and `eval_step` take."""

    def predict_step(self, variables: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Predicts faces of which nothing is known; compiles when first called.

        Args:
          variables: From `eval_variables`.
          batch: `image` and `index`, from `devices.shard_batch`.

        Returns:
          The columns of `eval_step.create_predict_step`; [..., K] if `is_ensemble`, of the columns
          that all members have (but for `index`).
        """

    def eval_step(self, variables: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The same with the labels in the batch: rows of `eval_step.create_eval_step`."""


def compile_train_steps(
    config: ConfigDict,
    tx: optax.GradientTransformation,
    age_weights: Sequence[float] | None = None,
    lift: Callable[[Callable], Callable] = lambda step: step,
) -> Callable[[int], devices.Program]:
    """Compiles the training steps of a model: number to `step(state, batch) -> (state, metrics)`.

    Args:
      config: Of the run.
      tx: The optimiser.
      age_weights: As for `train_step.create_train_step`.
      lift: Makes a step of several members out of that of one.

    Returns:
      A function that gives one program while stages are frozen, in which nothing of theirs is
      differentiated, and another one afterwards.
    """
    steps = config.finetune.freeze_steps

    def compile_one(frozen_stages: int) -> devices.Program:
        model = create_model(
            config.model,
            axis_name=devices.AXIS,
            frozen_stages=frozen_stages,
            frozen_statistics=config.finetune.batch_norm == 'frozen',
        )
        step = train_step.create_train_step(model, tx, config, age_weights)
        return devices.compile_train_step(lift(step))

    first = compile_one(finetuning.create(config).frozen_stages)
    later = compile_one(0) if steps else first

    return lambda number: first if number <= steps else later


@dataclasses.dataclass
class _Row:
    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    rate: str


def parameter_table(params: Any, finetune: finetuning.Finetuning) -> str:
    """The parameters as a table, with the rates at which they learn unless all are 1."""
    note = ''
    if finetune.config.batch_norm == 'frozen':
        note = '\nBatchNorm runs by its statistics, which are frozen'
    if not finetune.changes_updates:
        table = parameter_overview.get_parameter_overview(params, include_stats=False)
        return table + note
    rows = [
        _Row(
            jax.tree_util.keystr(path, simple=True, separator='/'),
            x.shape,
            str(x.dtype),
            int(np.prod(x.shape)),
            finetune.describe(finetune.stage_of(path)),
        )
        for path, x in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    return parameter_overview.make_table(rows) + note


class SingleModel:
    """One model; its state is a TrainState.

    Args:
      config: Of the run.
      learning_rate_fn: Step to learning rate.
      age_weights: As for `train_step.create_train_step`.
    """

    members: tuple[int, ...] = (0,)
    is_ensemble: bool = False

    def __init__(
        self,
        config: ConfigDict,
        learning_rate_fn: optax.Schedule,
        age_weights: Sequence[float] | None = None,
    ):
        model = create_model(config.model, axis_name=devices.AXIS)
        self._finetune = finetuning.create(config)
        tx = create_optimizer(config.optimizer, learning_rate_fn, self._finetune)
        self.create_state = lambda: create_train_state(model, tx, config)
        self.abstract_state = lambda: abstract_train_state(model, tx, config)
        self.predict_step = devices.compile_eval_step(create_predict_step(model, config))
        self.eval_step = devices.compile_eval_step(create_eval_step(model, config))
        self._train_steps = compile_train_steps(config, tx, age_weights)

    def place(self, state: TrainState) -> TrainState:
        """See `Learner`."""
        return state

    to_save = place

    def overview(self, state: TrainState) -> str:
        """See `Learner`."""
        table = parameter_table(state.params, self._finetune)
        return f'{num_params(state.params):,} parameters\n{table}'

    def train_step(
        self, state: TrainState, batch: Mapping[str, jax.Array], number: int = 1
    ) -> tuple[TrainState, Any]:
        """See `Learner`."""
        return self._train_steps(number)(state, batch)

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
