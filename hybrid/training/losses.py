"""Losses per example, with a mask for unknown labels, and their mean over all devices."""

import jax
import jax.numpy as jnp
import optax

AGE_LOSSES = ('mse', 'l1', 'huber')


def age_loss(
    predicted: jax.Array,
    target: jax.Array,
    kind: str = 'mse',
    scale: float = 1.0,
    huber_delta: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Regression loss of the normalised error e = (predicted - target) / scale.

    Args:
      predicted: [B], years.
      target: [B], years; NaN = unknown.
      kind: 'mse' (e^2), 'l1' (|e|) or 'huber' (e^2 / 2 up to |e| = huber_delta, linear beyond).
      scale: years; the unit of the error.
      huber_delta: where 'huber' turns linear, in units of scale.

    Returns:
      Losses [B], and mask [B] of 1 where the target is known, both float32. Where it is unknown
      the loss and its gradient are exactly 0.

    Raises:
      ValueError: if the kind is unknown.
    """
    known = ~jnp.isnan(target)
    # Selected before the loss, not after it: the gradient of a NaN times 0 would be NaN.
    error = jnp.where(known, predicted, 0.0) - jnp.where(known, target, 0.0)
    error = error.astype(jnp.float32) / scale
    if kind == 'mse':
        values = jnp.square(error)
    elif kind == 'l1':
        values = jnp.abs(error)
    elif kind == 'huber':
        values = optax.huber_loss(error, delta=huber_delta)
    else:
        raise ValueError(f'unknown age loss {kind!r}; known: {", ".join(AGE_LOSSES)}')
    return values, known.astype(jnp.float32)


def gender_loss(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy of gender.

    Args:
      logits: [B, 2].
      labels: [B] int, 0 = male, 1 = female, -1 = unknown.
      label_smoothing: share of the target spread evenly over both classes (Szegedy et al.,
        https://arxiv.org/abs/1512.00567).

    Returns:
      Losses [B] in nats, and mask [B] of 1 where the label is known, both float32. Where it is
      unknown the loss and its gradient are exactly 0.
    """
    known = labels >= 0
    logits = jnp.where(known[:, None], logits, 0.0).astype(jnp.float32)
    targets = jax.nn.one_hot(jnp.where(known, labels, 0), logits.shape[-1])
    values = optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))
    return jnp.where(known, values, 0.0), known.astype(jnp.float32)


def masked_mean(values: jax.Array, mask: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Mean of the values where the mask is not 0, or this device's share of it.

    Known labels differ in number between devices, so a mean of device means would be wrong: here
    each device divides its own sum by the count over all devices. Summed over devices (`psum`),
    shares make the global mean, and their gradients its gradient.

    Args:
      values: [B].
      mask: [B], 0 or 1 (or a weight).
      axis_name: mapped axis of the devices; None for a single one.

    Returns:
      float32 scalar: sum(values * mask) here / sum(mask) everywhere; 0 if nothing is known.
    """
    total = jnp.sum(jnp.where(mask > 0, values * mask, 0.0), dtype=jnp.float32)
    count = jnp.sum(mask, dtype=jnp.float32)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    return total / jnp.where(count > 0, count, 1.0)
