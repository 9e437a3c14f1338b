"""Steps that predict and evaluate, and the predictions for every example of a split."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from flax import linen as nn
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import augment, filters, input_pipeline
from hybrid.models import heads

# If a device has at most this many views of faces, all go through the network at once: most of the
# time is then spent on reading the parameters, and memory is no concern.
_ONE_PASS = 64

# (variables, images uint8 [B, R, R, 3]) -> the outputs of each head, by its name.
Forward = Callable[[Any, jax.Array], dict[str, Any]]


def create_predict_step(model: nn.Module, config: ConfigDict) -> Callable:
    """Returns the per-device `step(variables, batch) -> columns`, which needs no labels.

    Its batch has `image`, uint8 [B, R, R, 3], and `index` [B], which is passed on. The columns are
    what the heads predict of each face (see `heads.Head.predict`): at least `predicted_age` [B] in
    years and `female_probability` [B].
    """
    of_heads = heads.create_heads(config.model.head)
    forward = _create_forward(model, config, of_heads)

    def predict_step(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        outputs = forward(variables, batch['image'])
        columns = heads.predict(of_heads, outputs, config.evaluate.age_estimate)
        return {'index': batch['index'], **columns}

    return predict_step


def create_eval_step(model: nn.Module, config: ConfigDict) -> Callable:
    """Returns the per-device `step(variables, batch) -> rows`.

    The rows are the columns of `create_predict_step` and the losses of training, `age_loss` and
    `gender_loss`, which are NaN where the label is unknown. The batch has the labels, too.
    """
    of_heads = heads.create_heads(config.model.head, config.loss)
    forward = _create_forward(model, config, of_heads)

    def eval_step(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        outputs = forward(variables, batch['image'])
        rows = heads.predict(of_heads, outputs, config.evaluate.age_estimate)
        for name, head in of_heads.items():
            values, known = head.loss(outputs[name], batch)
            rows[f'{name}_loss'] = jnp.where(known > 0, values, jnp.nan)
        return {'index': batch['index'], **rows}

    return eval_step


def _create_forward(
    model: nn.Module, config: ConfigDict, of_heads: Mapping[str, heads.Head]
) -> Forward:
    """The way from images to outputs, which are averaged over the views of each face."""
    normalization = config.data.normalization

    def apply(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, augment.normalize(images, normalization), train=False)

    def forward(variables: Any, images: jax.Array) -> dict[str, Any]:
        views = create_views(augment.to_unit(images), config)
        count = images.shape[0]
        # An exported program does not know the size of its batches.
        if isinstance(count, int) and len(views) * count <= _ONE_PASS:
            outputs = apply(variables, jnp.concatenate(views))
            of_views = [
                jax.tree.map(lambda x, k=k: x[k * count : (k + 1) * count], outputs)
                for k in range(len(views))
            ]
        else:
            of_views = [apply(variables, view) for view in views]
        return {
            name: head.average([outputs[name] for outputs in of_views])
            for name, head in of_heads.items()
        }

    return forward


def create_views(images: jax.Array, config: ConfigDict) -> list[jax.Array]:
    """The views of each face that a prediction is averaged over, as `config.evaluate` says.

    Args:
      images: float32 [B, R, R, 3] in 0..1, as they are read.
      config: The run's config.

    Returns:
      Each [B, S, S, 3]: the centre crop, and zoomed ones; each of them also at lower resolutions;
      each of all these also mirrored.
    """
    size, settings = config.data.image_size, config.evaluate
    count = images.shape[0]
    views = [augment.center_crop(images, size)]
    none = jnp.zeros(count)
    for zoom in settings.scales:
        views.append(
            augment.affine(
                images,
                size,
                angle=none,
                zoom=jnp.full(count, float(zoom)),
                shift=jnp.zeros((count, 2)),
                flip=jnp.zeros(count, bool),
            )
        )
    for side in settings.resolutions:
        matrices = filters.resampling(jnp.full(count, float(side)), size)
        views += [
            jnp.moveaxis(filters.apply(view, matrices, matrices), 1, 3)
            for view in views[: 1 + len(settings.scales)]
        ]
    if settings.flip_average:
        views = [one for view in views for one in (view, view[:, :, ::-1])]
    return views


def predict_split(
    eval_step: Callable,
    variables: Any,
    builder: tfds.core.DatasetBuilder,
    split: str,
    config: ConfigDict,
) -> dict[str, np.ndarray]:
    """Predicts every example of a split exactly once.

    Args:
      eval_step: A learner's, or one that `devices.compile_eval_step` has compiled.
      variables: The variables that it takes, on every device.
      builder: The dataset, which is prepared.
      split: The name of the split.
      config: The run's config, for the batch size and how images are read.

    Returns:
      The columns of `create_eval_step`, [N] each, in the order of the split. For the K members of
      an ensemble all columns but `index` are [N, K].

    Raises:
      RuntimeError: if an example is missing or came twice.
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
    expected = builder.info.splits[split].num_examples
    return predict_batches(eval_step, variables, (batch for batch, _ in placed), expected, split)


def predict_batches(
    eval_step: Callable,
    variables: Any,
    batches: Iterable[Mapping[str, jax.Array]],
    expected: int,
    split: str,
) -> dict[str, np.ndarray]:
    """As `predict_split`, of batches that are on the devices; `expected` examples are in them."""
    rows = devices.gather_rows([eval_step(variables, batch) for batch in batches])
    real = rows['index'] >= 0
    order = np.argsort(rows['index'][real], kind='stable')
    rows = {name: column[real][order] for name, column in rows.items()}
    if not np.array_equal(rows['index'], np.arange(expected)):
        raise RuntimeError(f'{split}: {len(rows["index"])} rows for {expected} examples')
    return rows
