"""Age as a chain of questions: are they older than 0? And if so, older than 1? And so on.

CORN: Shi, Cao and Raschka, "Deep neural networks for rank-consistent ordinal regression based on
conditional probabilities", 2021, https://arxiv.org/abs/2111.08851.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid.models.heads.distribution import YearsHead, prior_logits
from hybrid.models.heads.head import YEARS, dense_layers


def log_probabilities(logits: jax.Array) -> jax.Array:
    """The log-probabilities [B, YEARS] of years.

    Args:
      logits: [B, YEARS - 1], of being older than each year, given that one is not younger. Each
        probability of being older than a year is a product of these, and so at most that of being
        older than the year before: ranks are consistent, whatever the logits.
    """
    older = jnp.cumsum(jax.nn.log_sigmoid(logits), axis=-1)
    at_least = jnp.pad(older, ((0, 0), (1, 0)))
    return at_least + jnp.pad(jax.nn.log_sigmoid(-logits), ((0, 0), (0, 1)))


def prior_conditionals(logits: np.ndarray) -> np.ndarray:
    """Turns logits [YEARS - 1] of being older, which fall, into those that CORN learns.

    Training starts with them because by equal odds nearly everybody would be 0 or 1 year old.
    """
    odds_before = np.logaddexp(0, -logits[:-1]) - np.log(-np.expm1(np.diff(logits)))
    return logits + np.pad(odds_before, (1, 0))


class CornHead(YearsHead):
    """A binary classifier for each year but the last: older, given that they are not younger.

    A face asks those classifiers up to its age, and the sum of their cross-entropies is just the
    negative logarithm of the probability of that age, in nats. That is the loss here. (The paper's
    is its sum over a batch, divided by the number of classifiers that were asked.) So the loss of a
    range is the negative logarithm of its probability: the classifiers below the range say yes, and
    one of those inside no.

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
      age_offset: Mean of the distribution that training starts with, in years.
      age_scale: Its standard deviation in years.
    """

    age_offset: float = 33.0
    age_scale: float = 20.0

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [B, F] to log-probabilities [B, YEARS] of the years from 0 on, float32."""
        bias = prior_conditionals(prior_logits(self.age_offset, self.age_scale))
        return log_probabilities(dense_layers(features, self.hidden, YEARS - 1, bias))
