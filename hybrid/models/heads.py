"""Heads: features to age in years, features to gender logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Small, so that training starts near the age offset and at equal odds of both genders.
_output_init = nn.initializers.normal(0.01)


class AgeHead(nn.Module):
    """Linear regression of age; what is learned is (age - age_offset) / age_scale.

    Attributes:
      age_offset: years; about the mean age of the training split.
      age_scale: years; about its standard deviation.
      hidden: size of a hidden ReLU layer; 0 for none.
    """

    age_offset: float
    age_scale: float
    hidden: int = 0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [B, F] to ages [B], float32 years."""
        x = features.astype(jnp.float32)
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, name='hidden_layer')(x))
        x = nn.Dense(1, kernel_init=_output_init, name='output')(x)
        return x[:, 0] * self.age_scale + self.age_offset


class GenderHead(nn.Module):
    """Linear classifier of gender.

    Attributes:
      hidden: size of a hidden ReLU layer; 0 for none.
    """

    hidden: int = 0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [B, F] to logits [B, 2] (male, female), float32."""
        x = features.astype(jnp.float32)
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, name='hidden_layer')(x))
        return nn.Dense(2, kernel_init=_output_init, name='output')(x)
