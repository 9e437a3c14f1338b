"""Evaluation steps, and the predictions for every example of a split."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from flax import linen as nn
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import augment, input_pipeline
from hybrid.training import losses

# Up to so many faces a device both views go through the network at once: reading its parameters is
# what takes the time then, and memory is no concern.
_ONE_PASS = 32


def create_eval_step(model: nn.Module, config: ConfigDict) -> Callable:
    """Returns the per-device `step(variables, batch) -> rows`.

    Its rows are per example: `index`, `predicted_age` in years, `female_probability`, and the
    training's two losses, `age_loss` and `gender_loss`, NaN where the label is unknown.
    """
    size, normalization = config.data.image_size, config.data.normalization
    loss, scale = config.loss, config.model.head.age_scale
    flip_average = config.evaluate.flip_average

    def predict(variables, images):
        images = augment.normalize(images, normalization)
        outputs: Any = model.apply(variables, images, train=False)
        return outputs['age'], jax.nn.log_softmax(outputs['gender_logits'])

    def eval_step(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        images = augment.center_crop(augment.to_unit(batch['image']), size)
        if flip_average:
            flipped = images[:, :, ::-1]
            if len(images) <= _ONE_PASS:
                ages, of_views = predict(variables, jnp.concatenate([images, flipped]))
                ages, of_views = jnp.split(ages, 2), jnp.split(of_views, 2)
            else:
                views = [predict(variables, images), predict(variables, flipped)]
                ages, of_views = zip(*views, strict=True)
            age = (ages[0] + ages[1]) / 2
            log_probabilities = jnp.logaddexp(*of_views) - jnp.log(2.0)
        else:
            age, log_probabilities = predict(variables, images)
        age_loss, age_known = losses.age_loss(age, batch['age'], loss.age, scale, loss.huber_delta)
        gender_loss, gender_known = losses.gender_loss(
            log_probabilities, batch['gender'], loss.label_smoothing
        )
        return {
            'index': batch['index'],
            'predicted_age': age,
            'female_probability': jnp.exp(log_probabilities[:, 1]),
            'age_loss': jnp.where(age_known > 0, age_loss, jnp.nan),
            'gender_loss': jnp.where(gender_known > 0, gender_loss, jnp.nan),
        }

    return eval_step


def predict_split(
    eval_step: Callable,
    variables: Any,
    builder: tfds.core.DatasetBuilder,
    split: str,
    config: ConfigDict,
) -> dict[str, np.ndarray]:
    """Predicts every example of a split exactly once.

    Args:
      eval_step: Of a learner, or compiled by `devices.compile_eval_step`.
      variables: What it takes, on every device.
      builder: Prepared.
      split: Its split.
      config: Of the run.

    Returns:
      The columns of `create_eval_step`, [N] each, in the order of the split; [N, K] for the K
      members of an ensemble, but for `index`.

    Raises:
      RuntimeError: when an example is missing or came twice.
    """
    batches = input_pipeline.evaluation_batches(
        builder,
        split,
        batch_size=config.evaluate.batch_size,
        resize_size=config.data.resize_size,
        process_index=devices.process_index(),
        process_count=devices.process_count(),
        num_threads=config.data.num_threads,
    )
    placed = input_pipeline.prefetch_to_device(batches, devices.shard_batch, config.data.prefetch)
    rows = devices.gather_rows([eval_step(variables, batch) for batch, _ in placed])
    real = rows['index'] >= 0
    order = np.argsort(rows['index'][real], kind='stable')
    rows = {name: column[real][order] for name, column in rows.items()}
    expected = builder.info.splits[split].num_examples
    if not np.array_equal(rows['index'], np.arange(expected)):
        raise RuntimeError(f'{split}: {len(rows["index"])} rows for {expected} examples')
    return rows
