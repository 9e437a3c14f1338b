"""Age as answers to many questions at once: are they older than 0, than 1, than 2, and so on?

CORAL: Cao, Mirjalili and Raschka, "Rank consistent ordinal regression for neural networks with
application to age estimation", Pattern Recognition Letters 2020, https://arxiv.org/abs/1901.07884.
"""

import functools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid.models.heads.distribution import (
    FIRST_WIDTH,
    clipped_labels,
    describe,
    prior_logits,
)
from hybrid.models.heads.head import YEARS, Head, dense_layers

# So much faster than a weight it changes what is learned.
SHARPNESS_RATE = 3.0


class CoralHead(Head):
    """A binary classifier for each year but the last; all have the same weights, and own biases.

    The paper proves that biases fall from year to year where the loss is least, so that nobody is
    likelier to be older than 31 than to be older than 30. On the way there they need not, so they
    are sorted here; where they fall, that changes nothing.

    Attributes:
      age_offset: Mean of the distribution that training starts with, in years.
      age_scale: The unit of its width and of the loss, in years.
      hidden: Size of a hidden ReLU layer; 0 for none.
    """

    age_offset: float
    age_scale: float
    hidden: int = 0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to logits [B, YEARS - 1] of being older than 0, 1, ..., float32."""
        start = prior_logits(self.age_offset, FIRST_WIDTH * self.age_scale)
        biases = self.param('biases', lambda _: jnp.asarray(start, jnp.float32))
        logits = dense_layers(features, self.hidden, 1) + jnp.sort(biases)[::-1]
        # The same models as without it. But it changes all logits at once, and so the width, for
        # which each bias would have a long way to go.
        sharpness = self.param('log_sharpness', nn.initializers.zeros, ())
        return jnp.exp(SHARPNESS_RATE * sharpness) * logits

    def loss(
        self, outputs: jax.Array, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`: the sum of the cross-entropies, divided by `age_scale`.

        The sum over years has years for a unit, as an absolute error has. An age between two years
        is a yes by so much of it. A range has the losses of those years alone about which it
        decides: yes below it, and no from its end on.
        """
        lower, upper, known = clipped_labels(labels)
        year = jnp.arange(YEARS - 1, dtype=jnp.float32)
        yes = jnp.clip(lower[:, None] - year, 0.0, 1.0)
        no = jnp.clip(year + 1.0 - upper[:, None], 0.0, 1.0)
        values = yes * jax.nn.softplus(-outputs) + no * jax.nn.softplus(outputs)
        return jnp.where(known > 0, jnp.sum(values, axis=-1) / self.age_scale, 0.0), known

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """See `Head`; the predicted age is the expectation."""
        # The difference of two sigmoids, without a loss of digits where both are nearly 1.
        older, steps = jax.nn.sigmoid(outputs), -jnp.expm1(jnp.diff(outputs, axis=-1))
        first, last = jax.nn.sigmoid(-outputs[:, :1]), older[:, -1:]
        between = older[:, :-1] * jax.nn.sigmoid(-outputs[:, 1:]) * steps
        return describe(jnp.concatenate([first, between, last], axis=-1))

    def average(self, outputs: Sequence[jax.Array]) -> jax.Array:
        """See `Head`; averages the probabilities of being older."""

        def log_mean(signed: Sequence[jax.Array]) -> jax.Array:
            return functools.reduce(jnp.logaddexp, map(jax.nn.log_sigmoid, signed))

        return log_mean(outputs) - log_mean([-logits for logits in outputs])
