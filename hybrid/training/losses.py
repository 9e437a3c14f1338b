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


def without_largest(
    values: jax.Array, mask: jax.Array, rate: jax.Array | float, axis_name: str | None = None
) -> jax.Array:
    """The mask without the largest losses of the batch, whose labels are the likeliest to be wrong.

    This is the small-loss selection of co-teaching (Han et al., NeurIPS 2018,
    https://arxiv.org/abs/1804.06872) by the model itself.

    Args:
      values: Losses [B].
      mask: [B], not 0 where the loss is known.
      rate: The share of the known losses of all devices that are left out, rounded down to a whole
        number of them.
      axis_name: mapped axis of the devices; None for a single one.

    Returns:
      The mask [B], with 0 for what is left out. Of equal losses the last are left out first.
    """
    # What is not finite has to end the training, so it must not be left out.
    ranked = jnp.where((mask > 0) & jnp.isfinite(values), values, -jnp.inf)
    ranked = jax.lax.stop_gradient(ranked)
    known, start = jnp.sum(mask > 0), jnp.int32(0)
    if axis_name is not None:
        known, start = jax.lax.psum(known, axis_name), jax.lax.axis_index(axis_name) * len(mask)
        ranked = jax.lax.all_gather(ranked, axis_name, tiled=True)
    # A tenth of ten is one, though 0.1 * 10 may be less in float32.
    number = jnp.floor(rate * known + 1e-4)
    places = jnp.argsort(jnp.argsort(ranked))  # both are stable
    places = jax.lax.dynamic_slice_in_dim(places, start, len(mask))
    return jnp.where(places >= len(ranked) - number, 0.0, mask)
