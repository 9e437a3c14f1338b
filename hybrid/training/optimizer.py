"""Learning rate schedule and optimiser."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hybrid.training import finetuning


def create_learning_rate_fn(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Linear warm-up over a share of the steps, then cosine to zero or constant.

    Or `one_cycle`, as PyTorch's OneCycleLR has it: a warm-up by a cosine, from 1/25 of the peak,
    then cosine to zero (Smith & Topin, https://arxiv.org/abs/1708.07120).

    Args:
      config: `config.optimizer`.
      num_steps: Length of the training.
    """
    warmup_steps = round(config.warmup * num_steps)
    peak = config.learning_rate
    if config.schedule == 'constant':
        after = optax.constant_schedule(peak)
    else:
        after = optax.cosine_decay_schedule(peak, max(num_steps - warmup_steps, 1))
    if not warmup_steps:
        return after
    if config.schedule == 'one_cycle':
        fall = optax.cosine_decay_schedule(peak, warmup_steps, alpha=1 / 25)
        return optax.join_schedules([lambda step: fall(warmup_steps - step), after], [warmup_steps])
    # From peak / (warmup_steps + 1) on, so that the first step already moves.
    warmup = optax.linear_schedule(peak / (warmup_steps + 1), peak, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def decay_mask(params) -> dict:
    """True where weight decay applies: kernels, not biases, norms' scales or other vectors."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _clip(max_norm: float) -> optax.GradientTransformation:
    """Clips to a global norm, like `optax.clip_by_global_norm`.

    That one divides every element, which XLA does in a pass over memory of its own; a product with
    one factor becomes part of what follows.
    """

    def clip(updates, params):
        del params
        factor = max_norm / jnp.maximum(optax.tree.norm(updates), max_norm)
        return jax.tree.map(lambda g: g * factor, updates)

    return optax.stateless(clip)


def create_optimizer(
    config: ConfigDict,
    learning_rate_fn: optax.Schedule,
    finetune: finetuning.Finetuning | None = None,
) -> optax.GradientTransformation:
    """Clipping, then AdamW or SGD with Nesterov momentum, both with decoupled weight decay.

    Args:
      config: `config.optimizer`.
      learning_rate_fn: Step to learning rate.
      finetune: `config.finetune`; by default everything learns at the same rate.
    """
    if config.name == 'sgd':
        update = optax.trace(decay=config.momentum, nesterov=True)
    else:
        update = optax.scale_by_adam()
    clip = _clip(config.gradient_clip) if config.gradient_clip else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, decay_mask)
    scale = optax.scale_by_learning_rate(learning_rate_fn)
    if finetune is None or not finetune.changes_updates:
        return optax.chain(clip, update, decay, scale)
    update = finetune.learn(optax.chain(update, decay))
    return optax.chain(finetune.hold(), clip, update, scale)
