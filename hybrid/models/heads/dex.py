"""Age as probabilities of years.

DEX, "deep expectation": Rothe, Timofte and Van Gool, "Deep expectation of real and apparent age
from a single image without facial landmarks", IJCV 2018, https://doi.org/10.1007/s11263-016-0940-3.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid.models.heads.head import (
    YEARS,
    Head,
    age_labels,
    average_log_probabilities,
    dense_layers,
)


class DexHead(Head):
    """Classifies the year of age and predicts its expectation.

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
    """

    hidden: int = 0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to log-probabilities [B, YEARS] of the years from 0 on, float32."""
        return jax.nn.log_softmax(dense_layers(features, self.hidden, YEARS))

    def loss(
        self, outputs: jax.Array, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`: the cross-entropy in nats.

        The target of an age between two years is shared by both, so that its expectation is the
        age: 30.25 years are year 30 by 0.75 and year 31 by 0.25. An age above the last year is
        taken for that.

        Of a range it is the negative logarithm of the probability of all its years together; an end
        between two years counts the year outside in part, likewise.
        """
        lower, upper, known = age_labels(labels)
        lower, upper = jnp.clip(lower, 0.0, YEARS - 1.0), jnp.clip(upper, 0.0, YEARS - 1.0)
        years = jnp.arange(YEARS, dtype=jnp.float32)
        distance = jnp.abs(years - jnp.clip(years, lower[:, None], upper[:, None]))
        targets = jnp.maximum(1.0 - distance, 0.0)
        values = jnp.where(
            lower == upper,
            -jnp.sum(targets * outputs, axis=-1),
            -jax.nn.logsumexp(outputs, axis=-1, b=targets),
        )
        return jnp.where(known > 0, values, 0.0), known

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """See `Head`; the predicted age is the expectation."""
        probabilities, years = jnp.exp(outputs), jnp.arange(YEARS, dtype=jnp.float32)
        age = jnp.sum(probabilities * years, axis=-1)
        variance = jnp.sum(probabilities * jnp.square(years - age[:, None]), axis=-1)
        return {
            'predicted_age': age,
            'age_width': jnp.sqrt(variance),
            'age_probabilities': probabilities,
        }

    def average(self, outputs: Sequence[jax.Array]) -> jax.Array:
        """See `Head`; averages the probabilities."""
        return average_log_probabilities(outputs)
