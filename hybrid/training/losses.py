"""The mean over all devices of losses that are known for some examples only."""

import jax
import jax.numpy as jnp


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
