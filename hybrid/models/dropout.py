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
      whole: drops all values of an example or none. Of the branch of a residual block this is
        stochastic depth, or drop path (Huang et al., https://arxiv.org/abs/1603.09382).
    """

    rate: float
    whole: bool = False

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
        keys = _typed(keys)
        keep = 1.0 - self.rate
        shape = (1,) * (x.ndim - 1) if self.whole else x.shape[1:]
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, shape))(keys)
        return jnp.where(kept, x / keep, jnp.zeros_like(x))


def block_keys(keys: jax.Array | None, number: int) -> jax.Array | None:
    """Keys [B] for a block of an encoder, from one key per example; None if there are none."""
    if keys is None:
        return None
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(_typed(keys))


def block_rate(rate: float, number: int, count: int) -> float:
    """The rate of drop path in block `number` of `count`: from 0, linearly, to that of the last."""
    return rate * number / max(count - 1, 1)


def _typed(keys: jax.Array) -> jax.Array:
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return keys
    return jax.random.wrap_key_data(keys, impl='threefry2x32')
