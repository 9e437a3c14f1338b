"""Age as probabilities of years, which are to be those of a Gaussian about the label.

DLDL-v2, "deep label distribution learning": Gao, Zhou, Wu and Geng, "Age estimation using
expectation of label distribution learning", IJCAI 2018, https://doi.org/10.24963/ijcai.2018/99.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from hybrid.models.heads.distribution import (
    clipped_labels,
    describe,
    moments,
    negative_log_likelihood,
    years,
)
from hybrid.models.heads.head import YEARS, Head, average_log_probabilities, dense_layers

# Years. A learned width is at least that: a narrower Gaussian is one year alone.
_NARROWEST = 0.5

# 'log_probabilities' [B, YEARS] and 'label_width' [B] in years.
Outputs = Mapping[str, jax.Array]


class LdlHead(Head):
    """Learns a Gaussian about the label, and that the expectation be the label.

    The wider the Gaussian, the less the divergence can be, so a width cannot be learned by it. A
    width that is learned is that of the errors instead, for faces like this one: its own loss is
    the negative log-likelihood of the label in a Gaussian about the expectation, which changes
    neither the expectation nor the target.

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
      label_width: Standard deviation of the Gaussian in years; 0 for one that is learned.
      expectation_weight: Of the absolute error of the expectation, in years.
      age_scale: What the loss is divided by, so that it does not drown that of gender: about the
        standard deviation of ages, in years.
    """

    hidden: int = 0
    label_width: float = 2.0
    expectation_weight: float = 1.0
    age_scale: float = 1.0

    @nn.compact
    def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
        """Maps features [B, F] to `Outputs`, float32."""
        learned = not self.label_width
        x = dense_layers(features, self.hidden, YEARS + learned)
        width = jnp.full_like(x[:, 0], self.label_width)  # B may be a symbol, in an export.
        if learned:
            width = _NARROWEST + jax.nn.softplus(x[:, -1] + 5.0)
        return {'log_probabilities': jax.nn.log_softmax(x[:, :YEARS]), 'label_width': width}

    def loss(
        self, outputs: Outputs, labels: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """See `Head`: the divergence in nats and the absolute error in years, over `age_scale`.

        Of a range it is the negative logarithm of its probability, likewise.
        """
        log_p, width = outputs['log_probabilities'], outputs['label_width']
        lower, upper, known = clipped_labels(labels)
        away = (years() - lower[:, None]) / stop_gradient(width)[:, None]
        target = jax.nn.log_softmax(-jnp.square(away) / 2)
        error = moments(jnp.exp(log_p))[0] - lower
        values = jnp.sum(jnp.exp(target) * (target - log_p), axis=-1)
        values += self.expectation_weight * jnp.abs(error)
        if not self.label_width:
            values += jnp.log(width) + jnp.square(stop_gradient(error) / width) / 2
        values = jnp.where(lower == upper, values, negative_log_likelihood(log_p, lower, upper))
        return jnp.where(known > 0, values / self.age_scale, 0.0), known

    def predict(self, outputs: Outputs) -> dict[str, jax.Array]:
        """See `Head`; the predicted age is the expectation."""
        return describe(jnp.exp(outputs['log_probabilities']))

    def average(self, outputs: Sequence[Outputs]) -> dict[str, jax.Array]:
        """See `Head`; averages the probabilities, and the widths."""
        log_p = average_log_probabilities([one['log_probabilities'] for one in outputs])
        widths = jnp.stack([one['label_width'] for one in outputs])
        return {'log_probabilities': log_p, 'label_width': widths.mean(axis=0)}
