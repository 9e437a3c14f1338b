"""Averages over the examples of training, which the compiled step sums on the devices."""

from collections.abc import Mapping
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from hybrid.scores.outcomes import age_bounds, is_female


class _HostAverage(clu.metrics.Average):
    """`clu.metrics.Average` that is read on the host; over no example it is a silent NaN.

    Its mask may hold weights: the losses of a mixture of two examples count by their shares.
    """

    @classmethod
    def from_model_output(cls, values: jax.Array, mask: jax.Array, **_: Any) -> '_HostAverage':
        total = jnp.where(mask > 0, values * mask, 0).sum()
        return cls(total=total, count=mask.sum())

    def compute(self) -> np.ndarray:
        total, count = np.asarray(self.total), np.asarray(self.count, np.float64)
        with np.errstate(invalid='ignore'):
            return total / count


def _average(values: str, mask: str) -> Any:
    """Average of the model output named `values` where the one named `mask` is not 0."""
    return _HostAverage.from_fun(
        lambda **outputs: {'values': outputs[values], 'mask': outputs[mask]}
    )


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """Masked averages: losses, age MAE and interval error (years), and gender accuracy.

    In a pmapped step call `TrainMetrics.gather_from_model_output(axis_name='batch', ...)`, on one
    device `single_from_model_output`, with `age_loss`, `age_loss_mask`, `gender_loss`,
    `gender_loss_mask`, `[B]` each, and what `example_values` returns. `a.merge(b)` adds,
    `compute()` reads on the host. Values under mask 0 may be anything, NaN included.
    """

    age_loss: _average('age_loss', 'age_loss_mask')  # type: ignore[valid-type]
    gender_loss: _average('gender_loss', 'gender_loss_mask')  # type: ignore[valid-type]
    age_mae: _average('age_absolute_error', 'age_mask')  # type: ignore[valid-type]
    age_interval_error: _average(  # type: ignore[valid-type]
        'age_interval_error', 'age_interval_mask'
    )
    gender_accuracy: _average('gender_correct', 'gender_mask')  # type: ignore[valid-type]


def example_values(
    predictions: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Per-example values and masks, finite everywhere, also where a label is unknown.

    Args:
      predictions: of the heads: `predicted_age` `[B]` in years and `female_probability` `[B]`.
      batch: with `age` `[B]` in years (NaN = unknown), `age_min` and `age_max` unless all ages are
        exact (see `outcomes.age_bounds`), `gender` `[B]` (-1 = unknown) and `mask` `[B]` (0 =
        padding).

    Returns:
      float32 `[B]` arrays: `age_absolute_error` (years), `age_mask`, `age_interval_error` (years
      outside of a range), `age_interval_mask`, `gender_correct` (0 or 1) and `gender_mask`.
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
    return {
        'age_absolute_error': jnp.abs(predicted - age),
        'age_mask': age_known.astype(jnp.float32),
        'age_interval_error': jnp.abs(predicted - nearest),
        'age_interval_mask': ranged.astype(jnp.float32),
        'gender_correct': (gender_known & (female == batch['gender'])).astype(jnp.float32),
        'gender_mask': gender_known.astype(jnp.float32),
    }
