"""What a training run carries from step to step, and where its random keys come from."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from ml_collections import ConfigDict

from hybrid.models import encoders

# What a key is for; part of its derivation, so that purposes never share a key.
INITIALIZATION, AUGMENTATION, DROPOUT = range(3)


@struct.dataclass
class TrainState:
    """State of one model, or of several with a leading axis [K] in every array.

    Attributes:
      step: int32, how many steps are finished.
      member: int32, the number of this model in an ensemble; 0 for a model trained alone.
      params: The parameters, float32.
      batch_stats: The running statistics of all BatchNorms; an empty dict if there is none.
      opt_state: The optimiser's state.
      ema: Moving averages of `params` and `batch_stats`; None if they are switched off.
      nonfinite_step: int32, the first step whose loss or gradient was not finite; -1 while there is
        none. From that step on nothing else changes any more.
    """

    step: jax.Array
    member: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: dict[str, Any] | None
    nonfinite_step: jax.Array

    @property
    def eval_variables(self) -> dict[str, Any]:
        """Variables to evaluate with: the averages if there are any."""
        return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}


def create_key(
    seed: jax.Array | int, step: jax.Array | int, member: jax.Array | int, purpose: int
) -> jax.Array:
    """The key of one purpose at one step of one member, by fold_in from the seed (Threefry)."""
    key = jax.random.key(seed, impl='threefry2x32')
    for number in (step, member, purpose):
        key = jax.random.fold_in(key, number)
    return key


def example_keys(key: jax.Array, position: jax.Array) -> jax.Array:
    """One key [B] for each example, by its position [B] in the global batch."""
    return jax.vmap(lambda p: jax.random.fold_in(key, p))(position)


def create_train_state(
    model: nn.Module, tx: optax.GradientTransformation, config: ConfigDict, member: int = 0
) -> TrainState:
    """Initialises a model and its optimiser.

    Args:
      model: The network.
      tx: The optimiser.
      config: Gives the seed, the size of the images, and whether parameters are averaged.
      member: Number in an ensemble: every member starts from its own initialisation.
    """
    initialize = _compile(_create_initialize(model, tx, config))
    return initialize(np.uint32(config.seed), np.int32(member))


def create_stacked_train_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    members: Sequence[int],
) -> TrainState:
    """Initialises members of an ensemble: what `create_train_state` gives for each, stacked.

    Args:
      model: The network of all of them.
      tx: Their optimiser.
      config: As for one.
      members: Their numbers.

    Returns:
      A TrainState with a leading axis of members in every array.
    """
    initialize = _compile(_create_initialize(model, tx, config))
    # One after another, not vmapped: on two cores two of jaxlib's batched QR decompositions at a
    # time, of orthogonal initialisation, wait for each other for ever.
    states = [initialize(np.uint32(config.seed), np.int32(member)) for member in members]
    return jax.tree.map(lambda *x: jnp.stack(x), *states)


def abstract_train_state(
    model: nn.Module, tx: optax.GradientTransformation, config: ConfigDict, members: int = 0
) -> TrainState:
    """What a state looks like, as jax.ShapeDtypeStruct; of so many stacked members unless 0."""
    initialize = _create_initialize(model, tx, config)
    if not members:
        return jax.eval_shape(initialize, np.uint32(0), np.int32(0))
    initialize = jax.vmap(initialize, in_axes=(None, 0))
    return jax.eval_shape(initialize, np.uint32(0), np.zeros(members, np.int32))


def _create_initialize(
    model: nn.Module, tx: optax.GradientTransformation, config: ConfigDict
) -> Callable:
    # Seed and member are arguments, so that others do not compile anew.
    size, average = config.data.image_size, config.optimizer.ema_decay > 0
    encoder = encoders.get(config.model.encoder.name)

    def initialize(seed: jax.Array, member: jax.Array) -> TrainState:
        key = create_key(seed, 0, member, INITIALIZATION)
        variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
        encoder.check_collections(variables)
        params, batch_stats = variables['params'], variables.get('batch_stats', {})
        averages = {'params': params, 'batch_stats': batch_stats}
        return TrainState(
            step=jnp.int32(0),
            member=member,
            params=params,
            batch_stats=batch_stats,
            opt_state=tx.init(params),
            ema=jax.tree.map(jnp.copy, averages) if average else None,
            nonfinite_step=jnp.int32(-1),
        )

    return initialize


def _compile(initialize: Callable) -> Callable:
    # It runs but once: thorough optimisation would take 4 s more of compiling on two CPU cores.
    return jax.jit(initialize, compiler_options={'xla_backend_optimization_level': 1})


def num_params(params: Any) -> int:
    """How many numbers the parameters hold."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
