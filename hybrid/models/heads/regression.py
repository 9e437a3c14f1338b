"""Age as one number of years."""

from collections.abc import Mapping
from typing import Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hybrid.models.heads.head import Head, age_labels, dense_layers

# The values of `config.loss.age`.
AGE_LOSSES = ('mse', 'l1', 'huber')


class RegressionHead(Head):
    """Linear regression of age; the last layer learns (age - age_offset) / age_scale.

    Attributes:
      age_offset: About the mean age of the training split, in years.
      age_scale: About its standard deviation, in years; the loss measures errors in this unit.
      hidden: Size of a hidden ReLU layer; 0 for none.
      kind: The loss of the error e: 'mse' (e^2), 'l1' (|e|) or 'huber' (e^2 / 2 up to
        |e| = huber_delta, linear beyond).
      huber_delta: Where 'huber' turns linear, in units of `age_scale`.
    """

    age_offset: float
    age_scale: float
    hidden: int = 0
    kind: str = 'mse'
    huber_delta: float = 1.0

    @classmethod
    def from_config(cls, head: ConfigDict, loss: ConfigDict | None) -> Self:
        """See `Head`."""
        settings = {'kind': loss.age, 'huber_delta': loss.huber_delta} if loss else {}
        return cls(head.age_offset, head.age_scale, head.hidden, **settings)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to ages [B] in years, float32."""
        x = dense_layers(features, self.hidden, 1)
        return x[:, 0] * self.age_scale + self.age_offset

    def loss(
        self, outputs: jax.Array, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`; raises ValueError if the kind is unknown.

        The error of a range is the distance to it, and so 0 inside: to the nearest age that it
        allows.
        """
        lower, upper, known = age_labels(labels)
        # Selected before the loss, not after it: the gradient of a NaN times 0 would be NaN.
        predicted = jnp.where(known > 0, outputs, 0.0)
        error = predicted - jax.lax.stop_gradient(jnp.clip(predicted, lower, upper))
        # Of 0 itself, |e| has a gradient.
        inside = (lower < upper) & (lower <= predicted) & (predicted <= upper)
        error = jnp.where(inside, 0.0, error).astype(jnp.float32) / self.age_scale
        if self.kind == 'mse':
            values = jnp.square(error)
        elif self.kind == 'l1':
            values = jnp.abs(error)
        elif self.kind == 'huber':
            values = optax.huber_loss(error, delta=self.huber_delta)
        else:
            raise ValueError(f'unknown age loss {self.kind!r}; known: {", ".join(AGE_LOSSES)}')
        return values, known

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """See `Head`; nobody is younger than 0."""
        return {'predicted_age': jnp.maximum(outputs, 0.0)}
