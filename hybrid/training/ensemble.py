"""Ensembles: members of one architecture are one vmapped program, all train on the same batches.

A group is a number of members with the same model. Its state is a TrainState with a leading axis of
members, its step `pmap(vmap(train_step))`; the state of an ensemble is a dict of them. Where one
member trains at a time, as on CPUs, the state of a group is a tuple of TrainStates, for each of
which the step of one model is called: a `lax.map` would copy each out of stacked arrays and into
them again, which costs up to a tenth of the speed. Files always hold the stacked form.

Members are numbered through the groups, and a member's number is all in which its keys differ from
a single model's: member 0 is what a run of its own would be.
"""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.ops import kernels
from hybrid.training import finetuning, learner, train_step
from hybrid.training.eval_step import create_eval_step, create_predict_step
from hybrid.training.groups import Group, create_groups
from hybrid.training.optimizer import create_optimizer
from hybrid.training.train_state import (
    TrainState,
    abstract_train_state,
    create_stacked_train_state,
    num_params,
)

# Of an ensemble in training: for each group the stacked state of its members, or theirs apart.
State = Mapping[str, TrainState | tuple[TrainState, ...]]


class Ensemble:
    """The members of an ensemble as a `learner.Learner`.

    Args:
      config: Of the run.
      learning_rate_fn: Step to learning rate, of every member.
      age_weights: As for `train_step.create_train_step`.
    """

    is_ensemble: bool = True

    def __init__(
        self,
        config: ConfigDict,
        learning_rate_fn: optax.Schedule,
        age_weights: Sequence[float] | None = None,
    ):
        self.groups = create_groups(config)
        self.members = tuple(number for group in self.groups for number in group.members)
        at_once, evaluated = resolve_at_once(config.ensemble.at_once, config.model)
        self._apart = at_once == 1
        self._models: dict[str, Any] = {}
        self._txs: dict[str, optax.GradientTransformation] = {}
        self._train_steps: dict[str, Any] = {}
        self._predict_steps: dict[str, Any] = {}
        self._eval_steps: dict[str, Any] = {}
        for group in self.groups:
            try:
                model = create_model(group.config.model, axis_name=devices.AXIS)
            except ValueError as error:
                raise ValueError(f'config.ensemble.groups.{group.name}: {error}') from None
            finetune = finetuning.create(group.config)
            tx = create_optimizer(group.config.optimizer, learning_rate_fn, finetune)
            self._models[group.name], self._txs[group.name] = model, tx
            lift = functools.partial(map_members, at_once=at_once)
            self._train_steps[group.name] = learner.compile_train_steps(
                group.config, tx, age_weights, *(() if self._apart else (lift,))
            )
            for steps, create_step in (
                (self._predict_steps, create_predict_step),
                (self._eval_steps, create_eval_step),
            ):
                steps[group.name] = devices.compile_eval_step(
                    map_eval_members(create_step(model, group.config), evaluated)
                )

    def create_state(self) -> dict[str, TrainState]:
        """See `Learner`."""
        return {
            group.name: create_stacked_train_state(
                self._models[group.name], self._txs[group.name], group.config, group.members
            )
            for group in self.groups
        }

    def abstract_state(self) -> dict[str, TrainState]:
        """See `Learner`."""
        return {
            group.name: abstract_train_state(
                self._models[group.name],
                self._txs[group.name],
                group.config,
                len(group.members),
            )
            for group in self.groups
        }

    def place(self, state: dict[str, TrainState]) -> State:
        """See `Learner`."""
        if not self._apart:
            return state
        state = jax.tree.map(np.asarray, state)  # Views, where the device is a CPU.
        return {
            group.name: tuple(
                devices.replicate(take_member(state, [group], number)) for number in group.members
            )
            for group in self.groups
        }

    def to_save(self, state: State) -> dict[str, TrainState]:
        """See `Learner`."""
        return {name: _together(of_group) for name, of_group in state.items()}

    def overview(self, state: dict[str, TrainState]) -> str:
        """See `Learner`."""
        lines = []
        for group in self.groups:
            # Of one member: the table shows an array's mean, too, if it gets one.
            params = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state[group.name].params
            )
            table = learner.parameter_table(params, finetuning.create(group.config))
            names = ', '.join(map(str, group.members))
            each = f'{num_params(params):,} parameters each'
            lines.append(f'{group.name}, member {names}: {each}\n{table}')
        return '\n'.join(lines)

    def train_step(
        self, state: State, batch: Mapping[str, jax.Array], number: int = 1
    ) -> tuple[State, dict[str, Any]]:
        """See `Learner`; the metrics are a dict of the groups'."""
        steps = {name: steps(number) for name, steps in self._train_steps.items()}
        for name, step in steps.items():
            step.compile_ahead(_first(state[name]), batch)  # Side by side.
        pairs = {name: _step_members(step, state[name], batch) for name, step in steps.items()}
        return (
            {name: new for name, (new, _) in pairs.items()},
            {name: metrics for name, (_, metrics) in pairs.items()},
        )

    def summarize(self, metrics: list[dict[str, Any]], state: State) -> dict[str, float]:
        """See `Learner`: `train/<name>` averages the members that go on, each has its own too."""
        fetched = jax.device_get(metrics)
        of_groups = [
            train_step.average([_together(m[group.name]) for m in fetched]) for group in self.groups
        ]
        frozen = self.nonfinite_steps(state) >= 0
        row: dict[str, float] = {}
        for name in of_groups[0]:
            values = np.concatenate([np.asarray(averages[name]) for averages in of_groups])
            values = np.where(frozen, np.nan, values.astype(np.float64))
            going = values[~frozen]
            row[f'train/{name}'] = float(going.mean()) if going.size else float('nan')
            for number, value in zip(self.members, values, strict=True):
                row[f'train/member_{number}/{name}'] = float(value)
        return row

    def nonfinite_steps(self, state: State) -> np.ndarray:
        """See `Learner`."""
        of_groups = [_each(state[group.name], 'nonfinite_step') for group in self.groups]
        return np.concatenate([_together(s) for s in jax.device_get(of_groups)])

    def eval_variables(self, state: State) -> dict[str, Any]:
        """See `Learner`."""
        return {
            group.name: _together(_each(state[group.name], 'eval_variables'))
            for group in self.groups
        }

    def predict_step(
        self, variables: dict[str, Any], batch: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """See `Learner`."""
        return self._rows(self._predict_steps, variables, batch)

    def eval_step(
        self, variables: dict[str, Any], batch: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """See `Learner`."""
        return self._rows(self._eval_steps, variables, batch)

    def _rows(
        self,
        steps: Mapping[str, devices.Program],
        variables: dict[str, Any],
        batch: Mapping[str, jax.Array],
    ) -> dict[str, jax.Array]:
        """Puts the members of all groups side by side, in the columns that all groups have."""
        for name, step in steps.items():
            step.compile_ahead(variables[name], batch)
        rows = [step(variables[name], batch) for name, step in steps.items()]
        index = rows[0]['index']
        return {
            name: index if name == 'index' else jnp.concatenate([r[name] for r in rows], axis=-1)
            for name in rows[0]
            if all(name in r for r in rows)
        }


def resolve_at_once(at_once: int, model: ConfigDict) -> tuple[int, int]:
    """`config.ensemble.at_once` with its default, 0, made out for the devices at hand.

    Side by side is what fills a GPU. A CPU's cores are full with one member, whose activations stay
    in the caches when the others wait (`benchmarks/ensemble.py`). Evaluation has stacked parameters
    everywhere: in bfloat16 to cut out each member's costs more there than is won.

    Args:
      at_once: `config.ensemble.at_once`.
      model: `config.model`.

    Returns:
      How many members are trained, and how many evaluated, side by side.
    """
    if at_once:
        return at_once, at_once
    if not devices.on_cpu():
        return sys.maxsize, sys.maxsize
    native = kernels.resolve(model.kernels, model.dtype) == 'onednn' and model.dtype == 'bfloat16'
    return 1, 4 if native else 1  # So many were measured, and each is compiled for itself.


def _step_members(step: Callable, of_group: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Takes a step of the members of a group: at once, or one after another if they are apart."""
    if not isinstance(of_group, tuple):
        return step(of_group, batch)
    pairs = [step(state, batch) for state in of_group]
    return tuple(new for new, _ in pairs), tuple(metrics for _, metrics in pairs)


def _first(of_group: Any) -> Any:
    """What a group's program takes first: the stacked state, or that of one member."""
    return of_group[0] if isinstance(of_group, tuple) else of_group


def _each(of_group: TrainState | tuple[TrainState, ...], name: str) -> Any:
    """An attribute of a group's stacked state, or of each that is apart."""
    if isinstance(of_group, tuple):
        return tuple(getattr(state, name) for state in of_group)
    return getattr(of_group, name)


def _together(of_group: Any) -> Any:
    """A tuple of members' trees as one with a leading axis; anything else is so already."""

    def stack(*x: Any) -> Any:
        # By NumPy, which has nothing to compile.
        stacked = np.stack(x)
        return jax.device_put(stacked, x[0].sharding) if isinstance(x[0], jax.Array) else stacked

    return jax.tree.map(stack, *of_group) if isinstance(of_group, tuple) else of_group


def map_members(step: Callable, at_once: int = sys.maxsize) -> Callable:
    """A per-device `step(state, batch)` of one model to that of members with stacked states.

    Args:
      step: Returns trees of arrays.
      at_once: How many members are stepped side by side, by `vmap`; if there are more, the others
        wait their turn, in a `lax.map`, which needs the memory of so many members' activations.

    Returns:
      A step whose results have a leading axis of members, too.
    """
    side_by_side = jax.vmap(step, in_axes=(0, None))

    def step_members(states: Any, batch: Mapping[str, jax.Array]) -> Any:
        if jax.tree.leaves(states)[0].shape[0] <= at_once:
            return side_by_side(states, batch)
        size = at_once if at_once > 1 else None
        return lax.map(lambda state: step(state, batch), states, batch_size=size)

    return step_members


def map_eval_members(step: Callable, at_once: int = sys.maxsize) -> Callable:
    """As `map_members`, of an evaluation step: rows [B] become [B, K], but for `index` [B]."""
    step_members = map_members(step, at_once)

    def eval_step(variables: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        rows = step_members(variables, batch)
        rows = {name: jnp.moveaxis(column, 0, -1) for name, column in rows.items()}
        return {**rows, 'index': batch['index']}

    return eval_step


def take_member(state: dict[str, TrainState], groups: list[Group], number: int) -> TrainState:
    """The state of one member as that of a model of its own."""
    group = next(group for group in groups if number in group.members)
    place = group.members.index(number)
    return jax.tree.map(lambda x: x[place], state[group.name])


def stack_members(states: list[TrainState], groups: list[Group]) -> dict[str, TrainState]:
    """The state of an ensemble of models in the order of its members."""
    return {
        group.name: jax.tree.map(lambda *x: np.stack(x), *(states[i] for i in group.members))
        for group in groups
    }
