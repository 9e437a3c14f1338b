"""Training: `train_and_evaluate(config, workdir)` reads top to bottom."""

import contextlib
import logging
import pathlib
import time
from typing import Any

import tensorflow_datasets as tfds
from clu import parameter_overview
from ml_collections import ConfigDict

from hybrid import (
    augment,
    checkpoints,
    datasets,
    evaluate,
    input_pipeline,
    losses,
    parallel,
    plots,
)
from hybrid import workdir as workdir_lib
from hybrid.interruption import Interruption
from hybrid.models.hybrid import create_model
from hybrid.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.train_state import TrainState, create_train_state, num_params
from hybrid.train_step import create_train_step, summarize
from hybrid.writers import METRICS, Progress, Writers

_LOG = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """A loss or a gradient was not finite; names the step."""


class Stopped(Exception):  # noqa: N818
    """The run was asked to stop and has saved everything; no error."""


def check_config(config: ConfigDict) -> None:
    """Raises ValueError for what would only fail once the step is compiled, or not at all."""
    parallel.check_batch_size(config.train.batch_size, 'config.train.batch_size')
    parallel.check_batch_size(config.evaluate.batch_size, 'config.evaluate.batch_size')
    if not 0 < config.data.image_size <= config.data.resize_size:
        raise ValueError(
            f'config.data.image_size={config.data.image_size} must be at most '
            f'config.data.resize_size={config.data.resize_size}, out of which it is cropped'
        )
    choices = {
        'data.normalization': (config.data.normalization, augment.NORMALIZATIONS),
        'loss.age': (config.loss.age, losses.AGE_LOSSES),
    }
    for key, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f'config.{key}={value!r} is not one of {", ".join(known)}')
    ranges = {
        'train.log_every_steps': (config.train.log_every_steps, 1, float('inf')),
        'loss.label_smoothing': (config.loss.label_smoothing, 0, 1),
        'optimizer.ema_decay': (config.optimizer.ema_decay, 0, 1),
    }
    for key, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ValueError(f'config.{key}={value} is not in {low}..{high}')


def create_train_iterator(builder: tfds.core.DatasetBuilder, config: ConfigDict) -> Any:
    """This process's share of the training batches, see `input_pipeline`."""
    return input_pipeline.create_train_iterator(
        builder,
        config.data.train_split,
        batch_size=config.train.batch_size,
        resize_size=config.data.resize_size,
        seed=config.seed,
        process_index=parallel.process_index(),
        process_count=parallel.process_count(),
        num_threads=config.data.num_threads,
        prefetch=config.data.prefetch,
    )


def train_and_evaluate(
    config: ConfigDict, workdir: pathlib.Path, overwrite_config: bool = False
) -> TrainState:
    """Trains, or continues a training, then evaluates its best checkpoint on validation and test.

    Args:
      config: See configs/default.py.
      workdir: Where everything goes.
      overwrite_config: Continue although the workdir holds another config.

    Returns:
      The final state, on every device.

    Raises:
      ValueError: for what is wrong with the config or the workdir.
      NonFiniteError: when the loss or the gradient was not finite at some step.
      SaveError: when a checkpoint could not be written.
      Stopped: when a signal asked for it; everything is saved.
    """
    check_config(config)
    if not overwrite_config:
        workdir_lib.check_config(workdir, config)
    builder = evaluate.create_builder(config)
    data = config.data
    datasets.prepare(builder, data.manual_dir)
    splits = [
        split for split in (data.train_split, data.validation_split, data.test_split) if split
    ]
    columns = {split: input_pipeline.read_columns(builder, split) for split in splits}
    steps_per_epoch = len(columns[data.train_split]['id']) / config.train.batch_size
    num_steps = config.train.num_steps or round(config.train.num_epochs * steps_per_epoch)
    if num_steps < 1:
        raise ValueError('config.train.num_steps or num_epochs must come to at least one step')
    eval_every = config.train.eval_every_steps or max(round(steps_per_epoch), 1)
    save_every = config.train.checkpoint_every_steps

    learning_rate_fn = create_learning_rate_fn(config.optimizer, num_steps)
    tx = create_optimizer(config.optimizer, learning_rate_fn)
    model = create_model(config.model, axis_name=parallel.AXIS)
    train_step = parallel.compile_train_step(create_train_step(model, tx, config))
    eval_step = parallel.compile_eval_step(evaluate.create_eval_step(model, config))
    state = create_train_state(model, tx, config)

    if parallel.is_main_process():
        workdir_lib.save_config(workdir, config)
        record = workdir_lib.describe_dataset(builder.info.full_name, columns, data.train_split)
        workdir_lib.save_dataset(workdir, record)
    parallel.wait_for_all('workdir')
    saved = checkpoints.Checkpoints(workdir)
    iterator = create_train_iterator(builder, config)
    start_step = 0
    target = checkpoints.abstract(state, parallel.replicated())
    if restored := saved.restore_latest(target):
        start_step, state, data_state = restored
        iterator.set_state(data_state)
        _LOG.info('%s: continuing after step %d of %d', workdir, start_step, num_steps)
    else:
        overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        _LOG.info('%s parameters\n%s', f'{num_params(state.params):,}', overview)
        state = parallel.replicate(state)

    if start_step < num_steps:
        _LOG.info('training for %d steps; the first one compiles', num_steps - start_step)
    writers = Writers(workdir, start_step, active=parallel.is_main_process())
    progress = Progress(num_steps, start_step, active=parallel.is_main_process())
    batches = input_pipeline.prefetch_to_device(iterator, parallel.shard_batch, data.prefetch)
    pending: list[dict[str, Any]] = []
    clock = time.monotonic()
    with Interruption() as interruption, contextlib.closing(batches):
        for step in range(start_step + 1, num_steps + 1):
            batch, data_state = next(batches)
            state, metrics = train_step(state, batch)
            pending.append(metrics)
            log = step % config.train.log_every_steps == 0
            validate = step % eval_every == 0 or step == num_steps
            # Several processes have to agree to stop, which costs a round trip.
            ask = log or parallel.process_count() == 1
            stop = ask and parallel.any_process(interruption.requested)
            save = validate or stop or (save_every > 0 and step % save_every == 0)
            # A row before every checkpoint, so that a continued run averages over the same steps.
            if log or save:
                row = summarize(pending)
                if (bad := int(state.nonfinite_step)) >= 0:
                    progress.close()
                    raise NonFiniteError(
                        f'{workdir}: the loss or the gradient was not finite at step {bad + 1}, '
                        'which was not saved. Try a smaller config.optimizer.learning_rate'
                    )
                row['train/learning_rate'] = float(learning_rate_fn(step - 1))
                images = len(pending) * config.train.batch_size
                row['train/images_per_second'] = images / (time.monotonic() - clock)
                writers.write(step, row)
                progress.show(step, row)
                pending = []
                clock = time.monotonic()
            score = None
            if validate and data.validation_split:
                rows = evaluate.predict_split(
                    eval_step, state.eval_variables, builder, data.validation_split, config
                )
                labels = columns[data.validation_split]
                scores = evaluate.validation_metrics(rows, labels, config)
                row = {f'validation/{name}': value for name, value in scores.items()}
                writers.write(step, {'epoch': step / steps_per_epoch, **row})
                progress.validated(row)
                score = evaluate.selection_score(scores, labels)
            if save:
                saved.save(step, state, data_state, config.to_dict(), score)
                clock = time.monotonic()
            if stop and step < num_steps:
                break
    progress.close()
    writers.close()
    saved.wait()
    if int(state.step) < num_steps:
        saved.close()
        signal_name = interruption.name or 'a signal to another process'
        raise Stopped(
            f'{workdir}: stopped by {signal_name} and saved after step {int(state.step)} of '
            f'{num_steps}; the same command continues from there'
        )

    best_step = saved.step('best' if data.validation_split else 'last')
    _LOG.info('%s: evaluating the best checkpoint, step %d', workdir, best_step)
    best, _ = saved.restore(best_step, target)
    saved.close()
    for split in splits[1:]:
        evaluate.evaluate_split(eval_step, best.eval_variables, builder, split, config, workdir)
    if parallel.is_main_process():
        plots.plot_training_curves(workdir / METRICS, workdir / 'training_curves.png')
    return state
