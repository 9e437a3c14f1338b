"""Dropout with a key per example."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout whose masks come from one key per example (Srivastava et al., 2014).

    `nn.Dropout` draws one mask for the whole array, so an example's mask would depend on where it
    stands in the batch and on the number of devices.

    Attributes:
      rate: probability of dropping a value, in [0, 1); the others are scaled by 1 / (1 - rate).
    """

    rate: float

    def __call__(self, x: jax.Array, keys: jax.Array | None, *, train: bool) -> jax.Array:
        """Drops values of x in training, returns x unchanged in evaluation.

        Args:
          x: [B, ...].
          keys: one per example: typed [B], or uint32 threefry [B, 2]. Not needed where nothing is
            dropped.
          train: whether to drop at all.

        Returns:
          [B, ...], same dtype.

        Raises:
          ValueError: if keys are needed and missing.
        """
        if not train or self.rate == 0:
            return x
        if keys is None:
            raise ValueError(f'dropout of rate {self.rate} needs one key per example in training')
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.wrap_key_data(keys, impl='threefry2x32')
        keep = 1.0 - self.rate
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)
        return jnp.where(kept, x / keep, jnp.zeros_like(x))
