"""Age as probabilities of years whose mean is to be right and whose variance small.

Pan, Han, Shan and Chen, "Mean-variance loss for deep age estimation from a face", CVPR 2018,
https://doi.org/10.1109/CVPR.2018.00554.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid.models.heads.distribution import (
    FIRST_WIDTH,
    YearsHead,
    clipped_labels,
    moments,
    negative_log_likelihood,
    prior_bias,
)
from hybrid.models.heads.head import YEARS, dense_layers


class MeanVarianceHead(YearsHead):
    """Classifies the year of age; the mean and the variance of the years have losses of their own.

    If all years were equally likely at first, the variance would be nearly all of the loss, and
    every face would get the same few years before there are features for anything else. So training
    starts with a narrow distribution (`FIRST_WIDTH`).

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
      mean_weight: Of half of the squared error of the mean, in years squared.
      variance_weight: Of the variance, in years squared.
      age_scale: What the loss is divided by, so that it does not drown that of gender: about the
        standard deviation of ages, in years.
      age_offset: Mean of the distribution that training starts with, in years.
    """

    mean_weight: float = 0.2
    variance_weight: float = 0.05
    age_scale: float = 20.0
    age_offset: float = 33.0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to log-probabilities [B, YEARS] of the years from 0 on, float32."""
        bias = prior_bias(self.age_offset, FIRST_WIDTH * self.age_scale)
        return jax.nn.log_softmax(dense_layers(features, self.hidden, YEARS, bias))

    def loss(
        self, outputs: jax.Array, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`; of ranges the likelihood alone is learned, mean and variance are free."""
        lower, upper, known = clipped_labels(labels)
        mean, variance = moments(jnp.exp(outputs))
        of_moments = (
            self.mean_weight * jnp.square(mean - lower) / 2 + self.variance_weight * variance
        )
        values = negative_log_likelihood(outputs, lower, upper)
        values += jnp.where(lower == upper, of_moments, 0.0)
        return jnp.where(known > 0, values / self.age_scale, 0.0), known
