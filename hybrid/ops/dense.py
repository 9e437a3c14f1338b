"""A linear layer with a bfloat16 product and a float32 sum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class Dense(nn.Module):
    """`flax.linen.Dense`, with its parameters, whose bias is added in float32.

    That is more exact where the product is bfloat16, and it has to be so: XLA of jaxlib 0.12 fails
    to compile for oneDNN what adds a bias in bfloat16 and goes on in float32.

    Attributes:
      features: size F of what comes out.
      dtype: of the product.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to float32 [..., F]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
        product = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return product.astype(jnp.float32) + bias
