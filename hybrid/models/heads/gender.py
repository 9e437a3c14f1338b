"""Gender as a probability."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from hybrid.models.heads.head import Head, average_log_probabilities, dense_layers


class GenderHead(Head):
    """Linear classifier of gender.

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
      label_smoothing: Share of the target that is spread evenly over both classes (Szegedy et al.,
        https://arxiv.org/abs/1512.00567).
    """

    hidden: int = 0
    label_smoothing: float = 0.0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to log-probabilities [B, 2] (male, female), float32."""
        return jax.nn.log_softmax(dense_layers(features, self.hidden, 2))

    def loss(
        self, outputs: jax.Array, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`: the cross-entropy in nats."""
        gender = labels['gender']
        known = gender >= 0
        targets = jax.nn.one_hot(jnp.where(known, gender, 0), 2)
        targets = optax.smooth_labels(targets, self.label_smoothing)
        values = -jnp.sum(targets * outputs, axis=-1)
        return jnp.where(known, values, 0.0), known.astype(jnp.float32)

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """See `Head`."""
        return {'female_probability': jnp.exp(outputs[:, 1])}

    def average(self, outputs: Sequence[jax.Array]) -> jax.Array:
        """See `Head`; averages the probabilities."""
        return average_log_probabilities(outputs)
