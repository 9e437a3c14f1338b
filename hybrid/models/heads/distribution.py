"""What heads have in common that predict a distribution of ages, over YEARS years."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid.models.heads.head import (
    YEARS,
    Head,
    age_labels,
    average_log_probabilities,
    dense_layers,
)

# The standard deviation, in units of `age_scale`, of a distribution that is about as wide as those
# of faces will be, and not as that of all ages: some heads start with one.
FIRST_WIDTH = 0.25


def years() -> jax.Array:
    """The ages that the probabilities of a distribution are of, float32 [YEARS]."""
    return jnp.arange(YEARS, dtype=jnp.float32)


def clipped_labels(
    labels: Mapping[str, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `age_labels`; an age above the last year is taken for that."""
    lower, upper, known = age_labels(labels)
    return jnp.clip(lower, 0.0, YEARS - 1.0), jnp.clip(upper, 0.0, YEARS - 1.0), known


def shares(lower: jax.Array, upper: jax.Array) -> jax.Array:
    """How much of each year labels allow, [B, YEARS], given their clipped bounds [B].

    An age between two years is shared by both, so that its expectation is the age: 30.25 years are
    year 30 by 0.75 and year 31 by 0.25. A range allows all of its years; an end between two years
    allows the year outside in part, likewise.
    """
    distance = jnp.abs(years() - jnp.clip(years(), lower[:, None], upper[:, None]))
    return jnp.maximum(1.0 - distance, 0.0)


def negative_log_likelihood(
    log_probabilities: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """What labels lack in probability, in nats.

    Args:
      log_probabilities: Of the years, [B, YEARS].
      lower: Clipped lower bounds [B].
      upper: Clipped upper bounds [B].

    Returns:
      [B]: the cross-entropy of an exact age; of a range the negative logarithm of the probability
      of all its years together.
    """
    allowed = shares(lower, upper)
    return jnp.where(
        lower == upper,
        -jnp.sum(allowed * log_probabilities, axis=-1),
        -jax.nn.logsumexp(log_probabilities, axis=-1, b=allowed),
    )


def moments(probabilities: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean [B] in years and the variance [B] of probabilities [B, YEARS]."""
    age = jnp.sum(probabilities * years(), axis=-1)
    return age, jnp.sum(probabilities * jnp.square(years() - age[:, None]), axis=-1)


def describe(probabilities: jax.Array) -> dict[str, jax.Array]:
    """The columns of `Head.predict` for probabilities [B, YEARS]; the age is their mean."""
    age, variance = moments(probabilities)
    return {
        'predicted_age': age,
        'age_width': jnp.sqrt(variance),
        'age_probabilities': probabilities,
    }


def prior_logits(age_offset: float, age_scale: float) -> np.ndarray:
    """Logits [YEARS - 1] of being older than 0, 1, and so on, by a logistic distribution: a line.

    Args:
      age_offset: Its mean in years.
      age_scale: Its standard deviation in years.
    """
    return (age_offset - 0.5 - np.arange(YEARS - 1)) * (np.pi / np.sqrt(3) / age_scale)


def prior_bias(age_offset: float, age_scale: float) -> np.ndarray:
    """What to add to the outputs of a softmax [YEARS] for the same distribution, but for its ends.

    Args:
      age_offset: Its mean in years.
      age_scale: Its standard deviation in years.
    """
    z = (np.arange(YEARS) - age_offset) * (np.pi / np.sqrt(3) / age_scale)
    return -np.logaddexp(0, z) - np.logaddexp(0, -z)


class YearsHead(Head):
    """A head whose outputs are log-probabilities of years, here by a softmax.

    Its loss is the negative log-likelihood; a subclass may learn otherwise.

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
        """See `Head` and `negative_log_likelihood`."""
        lower, upper, known = clipped_labels(labels)
        values = negative_log_likelihood(outputs, lower, upper)
        return jnp.where(known > 0, values, 0.0), known

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """See `Head`; the predicted age is the expectation."""
        return describe(jnp.exp(outputs))

    def average(self, outputs: Sequence[jax.Array]) -> jax.Array:
        """See `Head`; averages the probabilities."""
        return average_log_probabilities(outputs)
