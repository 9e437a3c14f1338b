"""The contract of a head, and what heads have in common."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid.scores.outcomes import age_bounds

# A head that predicts a distribution of ages predicts one over the years 0, 1, ..., YEARS - 1.
YEARS = 101

# Small, so that training starts near the age offset (or with all years equally likely) and with
# both genders equally likely.
_output_init = nn.initializers.normal(0.01)


class Head(nn.Module):
    """A part of the network that estimates one thing from the features of a face.

    A head maps features [B, F], of any dtype, to its outputs. These may be any tree of float32
    arrays [B, ...], since nothing but the head itself reads them. A subclass implements `__call__`,
    which alone uses the head's parameters, `loss` and `predict`. It also implements `average` if
    the mean of its outputs is not what they say together, and `from_config` if a field is called
    otherwise than its key in the config.
    """

    @classmethod
    def from_config(cls, head: ConfigDict, loss: ConfigDict | None) -> Self:
        """Creates the head from `config.model.head` and `config.loss`.

        A field has the value of the key of its name, in the one or the other. Where `loss` is None,
        nothing calls the method `loss`, and its settings do not matter.
        """
        settings = (loss.to_dict() if loss else {}) | head.to_dict()
        fields = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in fields})

    def loss(self, outputs: Any, labels: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """What training minimises.

        Args:
          outputs: Of this head, or from `average`.
          labels: The columns of the batch, [B] each: `age` in years (NaN = unknown, or a range),
            `age_min` and `age_max`, for which see `age_labels`, `gender` (0 = male, 1 = female,
            -1 = unknown), and others that a dataset may have.

        Returns:
          Losses [B], and `known` [B], which is 1 where the label is known and 0 elsewhere; both
          float32. Where the label is unknown the loss and its gradient must be exactly 0. A head
          that cannot learn from ranges of age takes them for unknown: it reads `age` alone.
        """
        raise NotImplementedError

    def predict(self, outputs: Any) -> dict[str, jax.Array]:
        """What the outputs mean, as columns whose first axis is the batch.

        An age head returns `predicted_age` [B] in years, at least 0. If it predicts a distribution
        it also returns `age_width` [B], the standard deviation of that distribution in years, and
        `age_probabilities` [B, YEARS]. The gender head returns `female_probability` [B].
        """
        raise NotImplementedError

    def average(self, outputs: Sequence[Any]) -> Any:
        """What several outputs say together: those of views of a face, or of several networks.

        Args:
          outputs: At least one.

        Returns:
          Outputs whose prediction is the average of the predictions. Here this is the mean of the
          outputs; a head whose outputs are not proportional to what they mean (logits, say, which
          stand for probabilities) must average what they mean instead.
        """
        return jax.tree.map(lambda *x: functools.reduce(jnp.add, x) / len(x), *outputs)


def age_labels(labels: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What is known of ages, for the loss of an age head.

    Args:
      labels: As for `Head.loss`; without `age_min` and `age_max` all ages are exact.

    Returns:
      Lower bounds [B] and upper bounds [B] in years, the same where an age is exact; the upper
      bound of a range such as 70+ is infinite. And `known` [B], float32: 1 where something is
      known, and 0 where nothing is; there the bounds are 0.
    """
    lower, upper = age_bounds(labels)
    known = ~jnp.isnan(lower)
    lower, upper = jnp.where(known, lower, 0.0), jnp.where(known, upper, 0.0)
    return lower, upper, known.astype(jnp.float32)


def dense_layers(
    features: jax.Array, hidden: int, size: int, bias: np.ndarray | None = None
) -> jax.Array:
    """The layers of most heads; call it in a head's `__call__`, which is `nn.compact`.

    Args:
      features: [B, F].
      hidden: Size of a hidden ReLU layer, `hidden_layer`; 0 for none.
      size: Size D of the layer `output`.
      bias: What its biases [D] start with; None for 0.

    Returns:
      [B, D], float32 whatever the dtype of the features.
    """
    x = features.astype(jnp.float32)
    if hidden:
        x = nn.relu(nn.Dense(hidden, name='hidden_layer')(x))
    bias_init = nn.initializers.zeros if bias is None else lambda *_: jnp.asarray(bias, jnp.float32)
    return nn.Dense(size, kernel_init=_output_init, bias_init=bias_init, name='output')(x)


def average_log_probabilities(outputs: Sequence[jax.Array]) -> jax.Array:
    """The logarithm of the mean of the probabilities whose logarithms are given."""
    return functools.reduce(jnp.logaddexp, outputs) - jnp.log(float(len(outputs)))
