"""Averages over the examples of training, which the compiled step sums on the devices."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from hybrid.scores.outcomes import age_bounds, is_female

Pairs = dict[str, tuple[jax.Array, jax.Array]]


def weighted_sums(pairs: Pairs) -> Pairs:
    """Sums values times weights, and the weights, which `psum` adds up over devices.

    Args:
      pairs: Values and their weights `[B]`, by name. The losses of a mixture of two examples count
        by their shares. Values of weight 0 may be anything, NaN included.

    Returns:
      Both sums, by name.
    """
    return {
        name: (jnp.where(weights > 0, values * weights, 0).sum(), weights.sum())
        for name, (values, weights) in pairs.items()
    }


def example_values(predictions: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Pairs:
    """Per-example values and masks, finite everywhere, also where a label is unknown.

    Args:
      predictions: of the heads: `predicted_age` `[B]` in years and `female_probability` `[B]`.
      batch: with `age` `[B]` in years (NaN = unknown), `age_min` and `age_max` unless all ages are
        exact (see `outcomes.age_bounds`), `gender` `[B]` (-1 = unknown) and `mask` `[B]` (0 =
        padding).

    Returns:
      The values and masks, float32 `[B]`, of `age_mae` (years), `age_interval_error` (years outside
      of a range) and `gender_accuracy` (0 or 1).
    """
    valid = batch['mask'] > 0
    age_known = valid & ~jnp.isnan(batch['age'])
    gender_known = valid & (batch['gender'] >= 0)
    predicted = predictions['predicted_age']
    age = jnp.where(age_known, batch['age'], predicted)
    low, high = age_bounds(batch)
    ranged = valid & (low < high)
    nearest = jnp.where(ranged, jnp.clip(predicted, low, high), predicted)
    female = is_female(predictions['female_probability']).astype(batch['gender'].dtype)
    correct = gender_known & (female == batch['gender'])
    return {
        'age_mae': (jnp.abs(predicted - age), age_known.astype(jnp.float32)),
        'age_interval_error': (jnp.abs(predicted - nearest), ranged.astype(jnp.float32)),
        'gender_accuracy': (correct.astype(jnp.float32), gender_known.astype(jnp.float32)),
    }
