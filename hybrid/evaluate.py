"""Evaluation of whole splits: predictions for every example, then the report."""

import logging
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from flax import linen as nn
from ml_collections import ConfigDict

from hybrid import augment, checkpoints, datasets, input_pipeline, losses, parallel, report, workdir
from hybrid.config_checks import check_config
from hybrid.models.hybrid import create_model
from hybrid.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.train_state import TrainState, create_train_state

_LOG = logging.getLogger(__name__)


def create_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    """The dataset that a config names, not necessarily prepared."""
    return datasets.create_builder(
        config.data.dataset, config.data.data_dir, config.data.parameters.to_dict()
    )


def create_prepared_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    """The dataset that a config names, prepared if it was not; one process goes first."""
    builder = create_builder(config)
    if parallel.is_main_process():
        datasets.prepare(builder, config.data.manual_dir)
    parallel.wait_for_all('dataset')
    if not parallel.is_main_process():
        builder = create_builder(config)
        datasets.prepare(builder, config.data.manual_dir)  # on a disk of its own
    return builder


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
        age, log_probabilities = predict(variables, images)
        if flip_average:
            flipped_age, flipped = predict(variables, images[:, :, ::-1])
            age = (age + flipped_age) / 2
            log_probabilities = jnp.logaddexp(log_probabilities, flipped) - jnp.log(2.0)
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
      eval_step: Compiled by `parallel.compile_eval_step`.
      variables: Of the model, on every device.
      builder: Prepared.
      split: Its split.
      config: Of the run.

    Returns:
      The columns of `create_eval_step`, [N] each, in the order of the split.

    Raises:
      RuntimeError: when an example is missing or came twice.
    """
    batches = input_pipeline.evaluation_batches(
        builder,
        split,
        batch_size=config.evaluate.batch_size,
        resize_size=config.data.resize_size,
        process_index=parallel.process_index(),
        process_count=parallel.process_count(),
        num_threads=config.data.num_threads,
    )
    placed = input_pipeline.prefetch_to_device(batches, parallel.shard_batch, config.data.prefetch)
    rows = parallel.gather_rows([eval_step(variables, batch) for batch, _ in placed])
    real = rows['index'] >= 0
    order = np.argsort(rows['index'][real], kind='stable')
    rows = {name: column[real][order] for name, column in rows.items()}
    expected = builder.info.splits[split].num_examples
    if not np.array_equal(rows['index'], np.arange(expected)):
        raise RuntimeError(f'{split}: {len(rows["index"])} rows for {expected} examples')
    return rows


def validation_metrics(
    rows: dict[str, np.ndarray], columns: dict[str, np.ndarray], config: ConfigDict
) -> dict[str, float]:
    """The few scores that training watches.

    Args:
      rows: From `predict_split`.
      columns: From `input_pipeline.read_columns`, of the same split.
      config: Of the run.

    Returns:
      `loss` (the training's, over the whole split), `age/mae` in years and `gender/accuracy`; the
      latter two are NaN where no label is known.
    """
    known = ~np.isnan(columns['age'])
    error = np.abs(rows['predicted_age'].astype(np.float64) - columns['age'])[known]
    known = columns['gender'] >= 0
    right = (rows['female_probability'] > 0.5)[known] == columns['gender'][known]

    def mean(values):
        values = values[~np.isnan(values)]
        return float(np.mean(values, dtype=np.float64)) if values.size else 0.0

    return {
        'loss': config.loss.age_weight * mean(rows['age_loss'])
        + config.loss.gender_weight * mean(rows['gender_loss']),
        'age/mae': float(error.mean()) if error.size else float('nan'),
        'gender/accuracy': float(right.mean()) if right.size else float('nan'),
    }


def selection_score(scores: dict[str, float], columns: dict[str, np.ndarray]) -> float | None:
    """What the best checkpoint is chosen by, the lower the better.

    Args:
      scores: From `validation_metrics`.
      columns: From `input_pipeline.read_columns`, of the same split.

    Returns:
      The age MAE in years; where no age is known, the share of wrong genders; None when that is not
      finite, so that the state cannot become the best.
    """
    any_age = not np.isnan(columns['age']).all()
    score = scores['age/mae'] if any_age else 1 - scores['gender/accuracy']
    return score if math.isfinite(score) else None


def report_rows(
    rows: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
    record: dict[str, Any],
    features: tfds.features.FeaturesDict,
) -> dict[str, np.ndarray]:
    """Joins predictions with labels and with what the constant predictor says.

    Args:
      rows: From `predict_split`.
      columns: From `input_pipeline.read_columns`, of the same split.
      record: The workdir's dataset.json.
      features: Of the dataset; its class labels other than gender become subgroups.

    Returns:
      The rows of `report.write_report`.
    """
    count = len(columns['id'])
    constant_age = record['constant_age']
    result = {
        'id': columns['id'],
        'age': columns['age'],
        'gender': columns['gender'],
        'predicted_age': rows['predicted_age'],
        'female_probability': rows['female_probability'],
        'constant_age': np.full(
            count, np.nan if constant_age is None else constant_age, np.float32
        ),
        'constant_gender': np.full(count, record['constant_gender']),
    }
    for name, feature in features.items():
        if isinstance(feature, tfds.features.ClassLabel) and name != 'gender':
            names = np.array([*feature.names, ''])  # -1, unknown, is the last
            result[name] = names[columns[name]]
    if 'leak' in columns:
        result['leak'] = columns['leak'].astype(bool)
    return result


def evaluate_split(
    eval_step: Callable,
    variables: Any,
    builder: tfds.core.DatasetBuilder,
    split: str,
    config: ConfigDict,
    folder: pathlib.Path,
    source: dict[str, Any],
) -> dict[str, Any]:
    """Evaluates one split and writes `evaluation/<split>/` in a workdir.

    Args:
      eval_step: Compiled by `parallel.compile_eval_step`.
      variables: Of the model, on every device.
      builder: Prepared.
      split: Its split.
      config: Of the run.
      folder: The workdir.
      source: Where the variables are from: `checkpoint` (best or last) and `step`.

    Returns:
      The metrics; empty on processes that do not write.

    Raises:
      ValueError: when the split does not hold the examples that the training saw under its name.
    """
    columns = input_pipeline.read_columns(builder, split)
    record = workdir.load_dataset(folder)
    known = record['splits'].get(split)
    if known and known['sha256'] != workdir.examples_hash(columns):
        raise ValueError(
            f'{builder.info.full_name}: split {split!r} does not hold the examples that '
            f'{folder / workdir.DATASET} names; is it another version of {record["name"]}?'
        )
    rows = predict_split(eval_step, variables, builder, split, config)
    rows = report_rows(rows, columns, record, builder.info.features)
    metrics = {}
    if parallel.is_main_process():
        output = folder / 'evaluation' / split.replace('/', '_')
        dataset = builder.info.full_name
        title = f'{dataset}, {split}, {source["checkpoint"]} checkpoint (step {source["step"]})'
        metrics = report.write_report(rows, output, title)
        settings = {'dataset': dataset, 'split': split, **config.evaluate.to_dict()}
        workdir.write_json(output / 'evaluation.json', source | settings)
        print(report.format_table(metrics, title))
        print(f'{output}: metrics.json, predictions.csv and pictures')
    parallel.wait_for_all(f'evaluated {split}')
    return metrics


def restore(
    config: ConfigDict, folder: pathlib.Path, checkpoint: str
) -> tuple[nn.Module, TrainState]:
    """Reads a trained model.

    Args:
      config: The workdir's.
      folder: The workdir.
      checkpoint: `best` (on validation) or `last`.

    Returns:
      The network, and the state on every device.

    Raises:
      FileNotFoundError: when there is no such checkpoint.
      ValueError: when it does not fit the config.
    """
    model = create_model(config.model)
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, 1))
    target = jax.eval_shape(lambda: create_train_state(model, tx, config))
    with checkpoints.Checkpoints(folder, read_only=True) as saved:
        step = saved.step(checkpoint)
        state, _ = saved.restore(step, checkpoints.abstract(target, parallel.replicated()))
    _LOG.info('%s: %s checkpoint, step %d', folder, checkpoint, step)
    return model, state


def evaluate(
    config: ConfigDict, folder: pathlib.Path, split: str, checkpoint: str
) -> dict[str, Any]:
    """`--mode=evaluate`: evaluates a split with a checkpoint of a workdir.

    Args:
      config: The workdir's, with overrides.
      folder: The workdir.
      split: Of the dataset.
      checkpoint: `best` or `last`.

    Returns:
      The metrics.
    """
    check_config(config)
    builder = create_prepared_builder(config)
    input_pipeline.check_split(builder, split)
    model, state = restore(config, folder, checkpoint)
    eval_step = parallel.compile_eval_step(create_eval_step(model, config))
    source = {'checkpoint': checkpoint, 'step': int(state.step)}
    variables = state.eval_variables
    return evaluate_split(eval_step, variables, builder, split, config, folder, source)
