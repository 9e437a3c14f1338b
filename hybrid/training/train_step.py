"""One training step, a pure function on each device, and the averages of its metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import augment, mixing
from hybrid.models import heads
from hybrid.models.network import Hybrid
from hybrid.training import balance, finetuning
from hybrid.training.losses import masked_mean, without_largest
from hybrid.training.train_metrics import example_values, weighted_sums
from hybrid.training.train_state import AUGMENTATION, DROPOUT, TrainState, create_key, example_keys


def create_train_step(
    model: Hybrid,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    age_weights: Sequence[float] | None = None,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, Any]]]:
    """Returns the per-device `train_step(state, batch) -> (state, metrics)`.

    It is pure and reduces over the axis `devices.AXIS` alone, so it can be mapped over devices and
    vmapped over the members of an ensemble. `metrics` are `sums` (of `weighted_sums`), `loss`
    and `grad_norm`, over all devices. The loss is the sum of those of the heads, weighted as
    `config.loss` says; with `age_weights`, of years, ages in the mean of theirs count as
    `balance.example_weights` says; what `config.loss.forget_rate` leaves out counts in no metric of
    losses either. The stages that the model freezes are not differentiated.
    """
    ranges = augment.create_ranges(config.augment)
    size, normalization = config.data.image_size, config.data.normalization
    of_heads = heads.create_heads(config.model.head, config.loss)
    weights = {name: config.loss[f'{name}_weight'] for name in of_heads}
    forget_rate, forget_steps = config.loss.forget_rate, config.loss.forget_steps
    ema_decay, seed = config.optimizer.ema_decay, config.seed
    finetune = finetuning.create(config)

    def train_step(state, batch):
        def keys(purpose):
            return example_keys(
                create_key(seed, state.step, state.member, purpose), batch['position']
            )

        images = augment.to_unit(batch['image'])
        images = augment.augment(images, keys(AUGMENTATION), size, ranges)
        mixture = None
        if ranges.mixup or ranges.cutmix:
            mixture = mixing.mix(images, batch, keys(AUGMENTATION), ranges)
            images = mixture.images
        images = augment.normalize(images, normalization)
        dropout_keys = keys(DROPOUT)
        learning, frozen = finetune.split(state.params, model.frozen_stages)

        def loss_fn(learning):
            params = finetuning.merge(learning, frozen)
            outputs, updates = model.apply(
                {'params': params, 'batch_stats': state.batch_stats},
                images,
                train=True,
                dropout_keys=dropout_keys,
                mutable=['batch_stats'],
            )
            total = jnp.float32(0)
            values: dict[str, tuple[jax.Array, jax.Array]] = {}
            for name, head in of_heads.items():

                def losses(labels, head=head, name=name):
                    loss, known = head.loss(outputs[name], labels)
                    if name == 'age' and age_weights is not None:
                        known *= balance.example_weights(age_weights, labels)
                    return loss, known * labels['mask']

                loss, mask = mixture.losses(losses) if mixture else losses(batch)
                if forget_rate:
                    rate = forget_rate * jnp.minimum(1.0, (state.step + 1) / max(forget_steps, 1))
                    mask = without_largest(loss, mask, rate, devices.AXIS)
                values[f'{name}_loss'] = loss, mask
                # This device's share: known labels differ in number between devices.
                total += weights[name] * masked_mean(loss, mask, devices.AXIS)
            # An encoder without BatchNorm has none.
            return total, (outputs, updates.get('batch_stats', {}), values)

        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(learning)
        outputs, batch_stats, values = aux
        loss, grads = jax.lax.psum((loss, grads), devices.AXIS)
        grads = finetuning.merge(grads, jax.tree.map(jnp.zeros_like, frozen))
        grad_norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            # A short memory at first, so that the average does not hang on to the initialisation.
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            variables = {'params': params, 'batch_stats': batch_stats}
            ema = optax.incremental_update(variables, ema, 1 - decay)
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=ema,
        )
        # From the first step that is not finite on, nothing changes any more.
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        stopped = state.replace(
            nonfinite_step=jnp.where(state.nonfinite_step < 0, state.step, state.nonfinite_step)
        )
        keep = finite & (state.nonfinite_step < 0)
        new_state = jax.tree.map(lambda new, old: jnp.where(keep, new, old), new_state, stopped)
        predictions = heads.predict(of_heads, outputs, config.evaluate.age_estimate)
        sums = weighted_sums(values | example_values(predictions, batch))
        sums = jax.lax.psum(sums, devices.AXIS)
        return new_state, {'sums': sums, 'loss': loss, 'grad_norm': grad_norm}

    return train_step


def average(steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Averages the metrics of several steps.

    Args:
      steps: The metrics that `train_step` returned; arrays may have a leading axis of members.

    Returns:
      `loss` and `grad_norm`, averaged over steps, and the averages of the sums, over examples
      (`age_interval_error` only if an age was a range; NaN over no example); each float64 of the
      shape [] or [K].
    """
    fetched = jax.device_get(steps)
    totals = jax.tree.map(lambda *values: np.sum(values, axis=0, dtype=np.float64), *fetched)
    sums = totals.pop('sums')
    if not sums['age_interval_error'][1].any():  # as in most datasets
        del sums['age_interval_error']
    with np.errstate(invalid='ignore'):
        averages = {name: values / weights for name, (values, weights) in sums.items()}
    return averages | {name: total / len(steps) for name, total in totals.items()}
