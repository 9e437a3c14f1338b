"""Training: `train_and_evaluate(config, workdir)` reads top to bottom."""

import contextlib
import logging
import pathlib
import time
from typing import Any

import tensorflow_datasets as tfds
from clu import parameter_overview
from ml_collections import ConfigDict

from hybrid import checkpoints, evaluate, input_pipeline, parallel, plots
from hybrid import workdir as workdir_lib
from hybrid.config_checks import check_config
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
        cache_bytes=config.data.cache_bytes,
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
    workdir_lib.check_config(workdir, config, overwrite_config)
    builder = evaluate.create_prepared_builder(config)
    data = config.data
    splits = [name for name in (data.train_split, data.validation_split, data.test_split) if name]
    columns = {split: input_pipeline.read_columns(builder, split) for split in splits}
    if len(columns) < len(splits):
        raise ValueError(f'config.data names a split twice: {", ".join(splits)}')
    input_pipeline.check_disjoint(columns)
    record = workdir_lib.describe_dataset(builder.info.full_name, columns, data.train_split)
    workdir_lib.check_dataset(workdir, record)
    num_examples = len(columns[data.train_split]['id'])
    steps_per_epoch = num_examples / config.train.batch_size
    num_steps = config.train.num_steps or round(config.train.num_epochs * steps_per_epoch)
    if num_steps < 1:
        raise ValueError('config.train.num_steps or num_epochs must come to at least one step')
    eval_every = config.train.eval_every_steps
    save_every = config.train.checkpoint_every_steps

    def epoch(step: int) -> int:
        return step * config.train.batch_size // num_examples

    learning_rate_fn = create_learning_rate_fn(config.optimizer, num_steps)
    tx = create_optimizer(config.optimizer, learning_rate_fn)
    model = create_model(config.model, axis_name=parallel.AXIS)
    train_step = parallel.compile_train_step(create_train_step(model, tx, config))
    eval_step = parallel.compile_eval_step(evaluate.create_eval_step(model, config))
    state = create_train_state(model, tx, config)
    iterator = create_train_iterator(builder, config)

    with contextlib.ExitStack() as stack:
        main = parallel.is_main_process()
        if main:
            stack.enter_context(workdir_lib.lock(workdir))
        saved = stack.enter_context(checkpoints.Checkpoints(workdir))
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
        # Only now: what was refused above leaves a workdir as it was.
        if main:
            workdir_lib.save_config(workdir, config)
            workdir_lib.save_dataset(workdir, record)
        interruption = stack.enter_context(Interruption())
        if start_step < num_steps:
            _LOG.info('training for %d steps; the first one compiles', num_steps - start_step)
        writers = stack.enter_context(Writers(workdir, start_step, active=main))
        progress = stack.enter_context(Progress(num_steps, start_step, active=main))
        batches = input_pipeline.prefetch_to_device(iterator, parallel.shard_batch, data.prefetch)
        stack.enter_context(contextlib.closing(batches))
        pending: list[dict[str, Any]] = []
        clock = time.monotonic()
        for step in range(start_step + 1, num_steps + 1):
            batch, data_state = next(batches)
            state, metrics = train_step(state, batch)
            pending.append(metrics)
            log = step % config.train.log_every_steps == 0
            ended = step % eval_every == 0 if eval_every else epoch(step) > epoch(step - 1)
            validate = ended or step == num_steps
            # Several processes have to agree to stop, which costs a round trip.
            ask = log or parallel.process_count() == 1
            stop = ask and step < num_steps and parallel.any_process(interruption.requested)
            save = validate or stop or (save_every > 0 and step % save_every == 0)
            # A row before every checkpoint, so that a continued run averages over the same steps.
            if log or save:
                row = summarize(pending)
                if (bad := int(state.nonfinite_step)) >= 0:
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
            score = None
            if validate and data.validation_split:
                rows = evaluate.predict_split(
                    eval_step, state.eval_variables, builder, data.validation_split, config
                )
                labels = columns[data.validation_split]
                scores = evaluate.validation_metrics(rows, labels, config)
                validation = {f'validation/{name}': value for name, value in scores.items()}
                writers.write(step, {'epoch': step / steps_per_epoch, **validation})
                progress.show(step, validation)
                score = evaluate.selection_score(scores, labels)
            if save:
                saved.save(step, state, data_state, config.to_dict(), score)
            if log or save:
                clock = time.monotonic()
            if stop:
                saved.wait()
                raise Stopped(
                    f'{workdir}: stopped by {interruption.name or "another process"} and saved '
                    f'after step {step} of {num_steps}; the same command continues from there'
                )
        saved.wait()
        if interruption.requested:
            raise Stopped(
                f'{workdir}: stopped by {interruption.name} after the last step; the same command '
                'evaluates'
            )
        which = 'best' if data.validation_split else 'last'
        best_step, best = saved.restore_best(target) if which == 'best' else (num_steps, state)

    if main:
        plots.plot_training_curves(workdir / METRICS, workdir / 'training_curves.png')
    _LOG.info('%s: evaluating the %s checkpoint, step %d', workdir, which, best_step)
    source = {'checkpoint': which, 'step': best_step}
    for split in splits[1:]:
        evaluate.evaluate_split(
            eval_step, best.eval_variables, builder, split, config, workdir, source
        )
    return state
