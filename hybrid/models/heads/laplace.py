"""Age as a location and a scale: a Laplace distribution, whose likelihood is learned.

At a given scale that is to learn by the absolute error; a scale for each face is that of Nix and
Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994,
https://doi.org/10.1109/ICNN.1994.374138, for another distribution.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid.models.heads.distribution import clipped_labels, years
from hybrid.models.heads.head import YEARS, Head, dense_layers

# Years. What is below 0 counts for year 0 and what is above the last year for that, so these have
# no other end; nor has a number that gradients are to go through.
_FAR = 1e6
# A scale is within so many factors of e of the one that training starts with.
MOST = 5.0

# 'location' in years and 'log_scale' of years, [B, M] each: a mixture, in equal parts, of M
# Laplace distributions; a network gives one.
Outputs = Mapping[str, jax.Array]


def log_mass(
    location: jax.Array, scale: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """The logarithm of the probability that Laplace distributions have between two ages.

    Args:
      location: Years.
      scale: Years.
      lower: Years; the shapes of all four broadcast.
      upper: Years, above `lower`.
    """
    below, above = (lower - location) / scale, (upper - location) / scale
    inside = (below < 0) & (above > 0)
    # Twice the mass on either side of the location; where `tail` is taken, any number will do.
    sides = -jnp.expm1(jnp.where(inside, below, -1.0)) - jnp.expm1(jnp.where(inside, -above, -1.0))
    tail = jnp.log(-jnp.expm1((lower - upper) / scale)) - jnp.maximum(below, -above)
    return jnp.where(inside, jnp.log(sides), tail) - jnp.log(2.0)


def year_ends(lower: jax.Array, upper: jax.Array) -> tuple[jax.Array, jax.Array]:
    """From which age to which the years `lower` to `upper` go, each half a year to either side."""
    start, end = (
        jnp.where(lower > 0, lower - 0.5, -_FAR),
        jnp.where(upper < YEARS - 1, upper + 0.5, _FAR),
    )
    return start, end


class LaplaceHead(Head):
    """Location and scale of age.

    A label says that the age is in a year, not that it is a number, so the loss is that of the
    probability of that year, which also keeps the scale from vanishing. The likelihood alone would
    count an error for less the larger the scale is, and all errors for much more than those of
    gender once it is small. So, as Seitzer et al. propose ("On the pitfalls of heteroscedastic
    uncertainty estimation with probabilistic neural networks", ICLR 2022,
    https://arxiv.org/abs/2203.09168), it is weighted by the scale, which no gradient goes through:
    the location then learns as by the absolute error in units of `age_scale`.

    Attributes:
      age_offset: The location that training starts with, about the mean age, in years.
      age_scale: The standard deviation that it starts with, about that of ages, in years.
      hidden: Size of a hidden ReLU layer; 0 for none.
    """

    age_offset: float
    age_scale: float
    hidden: int = 0

    @nn.compact
    def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
        """Maps features [B, F] to `Outputs`, float32."""
        x = dense_layers(features, self.hidden, 2)
        log_scale = MOST * jnp.tanh(x[:, 1:] / MOST) + jnp.log(self.age_scale / jnp.sqrt(2.0))
        return {'location': x[:, :1] * self.age_scale + self.age_offset, 'log_scale': log_scale}

    def loss(
        self, outputs: Outputs, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`: the negative logarithm of the probability of the year, or of a range.

        It is weighted by the scale, in units of `age_scale`.
        """
        lower, upper, known = clipped_labels(labels)
        location, scale = outputs['location'], jnp.exp(outputs['log_scale'])
        ends = (end[:, None] for end in year_ends(lower, upper))
        log_sum = jax.nn.logsumexp(log_mass(location, scale, *ends), axis=-1)
        weight = jax.lax.stop_gradient(jnp.mean(scale, axis=-1)) / self.age_scale
        values = weight * (jnp.log(location.shape[1]) - log_sum)
        return jnp.where(known > 0, values, 0.0), known

    def predict(self, outputs: Outputs) -> dict[str, jax.Array]:
        """See `Head`; a location before the first year, or after the last one, counts as that."""
        location, scale = outputs['location'], jnp.exp(outputs['log_scale'])
        each = jnp.clip(location, 0.0, YEARS - 1.0)
        age = jnp.mean(each, axis=-1)
        variance = jnp.mean(2 * jnp.square(scale) + jnp.square(each - age[:, None]), axis=-1)
        masses = log_mass(location[..., None], scale[..., None], *year_ends(years(), years()))
        return {
            'predicted_age': age,
            'age_width': jnp.sqrt(variance),
            'age_probabilities': jnp.mean(jnp.exp(masses), axis=1),
        }

    def average(self, outputs: Sequence[Outputs]) -> dict[str, jax.Array]:
        """See `Head`; the mixture of all."""
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *map(dict, outputs))
