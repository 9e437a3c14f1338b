"""Training; `train_and_evaluate(config, workdir)` can be read from top to bottom."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import input_pipeline, mixture, parts, records, several
from hybrid.data.parts import Part
from hybrid.modes import evaluate
from hybrid.runs import (
    calibration,
    checkpoints,
    dataset_record,
    face_ranges,
    member_weights,
    provenance,
    recovery,
    trained,
    trained_on,
    validation,
)
from hybrid.runs import workdir as workdir_lib
from hybrid.runs.interruption import Interruption
from hybrid.runs.writers import METRICS, Progress, Writers
from hybrid.scores import outcomes, plots
from hybrid.training import balance, learners
from hybrid.training.config_checks import check_config, check_training
from hybrid.training.learner import Learner
from hybrid.training.optimizer import create_learning_rate_fn
from hybrid.weights import initialization

_LOG = logging.getLogger(__name__)

# So many steps are dispatched ahead of the one that is being computed, so that no device waits.
STEPS_AHEAD = 2


class NonFiniteError(RuntimeError):
    """A loss or a gradient was not finite; the message names the step."""


class Stopped(Exception):  # noqa: N818
    """The run was asked to stop and has saved everything, which is no error."""


def create_train_iterator(datasets: Sequence[Part], config: ConfigDict) -> Any:
    """Creates the iterator over this process's share of the batches.

    See `input_pipeline` for one dataset, `mixture` for several.
    """
    how: dict[str, Any] = {
        'batch_size': config.train.batch_size,
        'resize_size': config.data.resize_size,
        'seed': config.seed,
        'process_index': devices.process_index(),
        'process_count': devices.process_count(),
        'num_threads': config.data.num_threads,
        'prefetch': config.data.prefetch,
        'cache_bytes': config.data.cache_bytes,
    }
    split = config.data.train_split
    if len(datasets) > 1:
        weights = several.weights(config.data)
        return mixture.create_train_iterator(datasets, split, weights=weights, **how)
    return input_pipeline.create_train_iterator(datasets[0].builder, split, **how)


def check_labels(
    dataset: str,
    columns: dict[str, dict[str, np.ndarray]],
    config: ConfigDict,
    learnt: tuple[str, ...],
) -> None:
    """Checks that there is something to learn, and to validate; warns of what is not learnt.

    Args:
      dataset: Its name.
      columns: For each split what `records.read_columns` gives.
      config: The config of the run.
      learnt: From `dataset_record.learnt`.

    Raises:
      ValueError: when a split has no label of what counts.
    """
    train, validation = config.data.train_split, config.data.validation_split
    ignored = [kind for kind in trained.KINDS if not config.loss[f'{kind}_weight']]
    if not learnt:
        weights = ''.join(f' (config.loss.{kind}_weight=0)' for kind in ignored)
        raise ValueError(
            f'{dataset}: split {train!r} has no age and no gender to learn from{weights}. Were the '
            'labels lost when the data was put together? --mode=audit counts them'
        )
    for kind in trained.KINDS:
        if kind not in learnt:
            why = (
                f'config.loss.{kind}_weight is 0'
                if kind in ignored
                else f'{train!r} has no {kind}s'
            )
            _LOG.warning('%s: %ss are not learnt, and will not be predicted', why, kind)
        elif only := _only_label(columns[train], kind):
            _LOG.warning(
                '%s: all %ss of %r that are known are %s, so that is all that can be learnt; '
                '--mode=audit counts the labels',
                dataset,
                kind,
                train,
                only,
            )
    if validation and not any(records.is_known(columns[validation], k).any() for k in learnt):
        raise ValueError(
            f'{dataset}: split {validation!r} has no {" and no ".join(learnt)}, so that no '
            "checkpoint could be chosen by it; --config.data.validation_split='' does without"
        )


def _only_label(columns: dict[str, np.ndarray], kind: str) -> str:
    """The age or the gender that all examples have of which it is known; '' if they differ."""
    ends = outcomes.age_bounds(columns) if kind == 'age' else (columns['gender'],)
    known = records.is_known(columns, kind)
    found = np.unique([end[known] for end in ends])
    if len(found) != 1:
        return ''
    return outcomes.GENDERS[int(found[0])] if kind == 'gender' else f'{found[0]:g}'


def report_nonfinite(learner: Learner, state: Any, known: set[int], workdir: pathlib.Path) -> None:
    """Warns of members that have been frozen since the last call, and adds them to `known`.

    Raises:
      NonFiniteError: when no member is left.
    """
    steps = learner.nonfinite_steps(state)
    if (steps >= 0).all():
        of = ' of the last member' if learner.is_ensemble else ''
        raise NonFiniteError(
            f'{workdir}: the loss or the gradient{of} was not finite at step {steps.max() + 1}, '
            'which was not saved. Try a smaller config.optimizer.learning_rate'
        )
    for number, step in zip(learner.members, steps, strict=True):
        if step >= 0 and number not in known:
            known.add(number)
            _LOG.warning(
                'member %d: the loss or the gradient was not finite at step %d; it stays as it was '
                'before and is left out, the others go on',
                number,
                step + 1,
            )


def train_and_evaluate(
    config: ConfigDict, workdir: pathlib.Path, overwrite_config: bool = False
) -> Any:
    """Trains, or continues a training, then evaluates its best checkpoint on validation and test.

    Args:
      config: See hybrid/default_config.py.
      workdir: Where everything goes.
      overwrite_config: Whether to continue although the workdir holds another config.

    Returns:
      The final state, on every device, in the form that steps take.

    Raises:
      ValueError: for what is wrong with the config or the workdir.
      NonFiniteError: when the loss or the gradient of every member has been not finite once.
      SaveError: when a checkpoint could not be written.
      Stopped: when a signal asked for it; everything is saved.
    """
    check_config(config)
    check_training(config)
    devices.check_batch_size(config.train.batch_size, 'config.train.batch_size')
    devices.check_batch_size(config.evaluate.batch_size, 'config.evaluate.batch_size')
    workdir_lib.check_continues(workdir, config, overwrite_config)
    if not workdir_lib.has_begun(workdir):
        initialization.check(config)
    data = config.data
    datasets, shared = trained_on.open_parts(config, workdir)
    columns = parts.join(datasets)
    record = trained_on.describe(datasets, data.train_split)
    learnt = dataset_record.learnt(record, config.loss)
    check_labels(record['name'], columns, config, learnt)
    calibration.check_errors(config, learnt)
    member_weights.check(config)
    dataset_record.check_continues(workdir, record)
    before = dataset_record.load(workdir) if workdir_lib.has_begun(workdir) else {}
    record |= balance.describe(columns[data.train_split], data, before)
    age_weights = record.get(balance.RECORD, {}).get(balance.WEIGHTS)
    num_examples = len(columns[data.train_split]['id'])
    steps_per_epoch = num_examples / config.train.batch_size
    num_steps = config.train.num_steps or round(config.train.num_epochs * steps_per_epoch)
    if num_steps < 1:
        raise ValueError(
            f'config.train.num_epochs={config.train.num_epochs} of {num_examples:,} examples are '
            f'less than one step of config.train.batch_size={config.train.batch_size}; set more, '
            'or config.train.num_steps'
        )
    eval_every = config.train.eval_every_steps
    save_every = config.train.checkpoint_every_steps

    def epoch(step: int) -> int:
        return step * config.train.batch_size // num_examples

    learning_rate_fn = create_learning_rate_fn(config.optimizer, num_steps)
    learner = learners.create(config, learning_rate_fn, age_weights)
    iterator = create_train_iterator(datasets, config)

    with contextlib.ExitStack() as stack:
        main = devices.is_main_process()
        if main:
            stack.enter_context(workdir_lib.lock(workdir))
        saved = stack.enter_context(checkpoints.Checkpoints(workdir))
        start_step = 0
        sources: list[dict[str, Any]] = []
        target = checkpoints.abstract(learner.abstract_state(), devices.replicated())
        if restored := recovery.restore_latest(saved, target):
            start_step, state, data_state = restored
            del restored  # Would be kept beside what `place` makes of it.
            iterator.set_state(data_state)
            _LOG.info('%s: continuing after step %d of %d', workdir, start_step, num_steps)
        else:
            state, sources = initialization.start(config, learner.create_state())
            _LOG.info('%s', learner.overview(state))
            state = devices.replicate(state)
        state = learner.place(state)
        # Only now: what was refused above leaves a workdir as it was.
        if main:
            workdir_lib.save_config(workdir, config)
            dataset_record.save(workdir, record)
            if not start_step:
                # Of an attempt with other data that ended before its first checkpoint.
                face_ranges.remove(workdir)
                trained_on.remove(workdir)
            if len(datasets) > 1:
                trained_on.save(workdir, shared)
            face_ranges.record(
                workdir, [one.builder for one in datasets], data.train_split, data.resize_size
            )
            if not start_step:
                workdir_lib.save_sources(workdir, sources)
            if 0 < start_step < num_steps:
                provenance.warn_of_changes(workdir, config.model.kernels)
            stack.enter_context(provenance.session(workdir, start_step, config.model.kernels))
        interruption = stack.enter_context(Interruption())
        if start_step < num_steps:
            _LOG.info('training for %d steps; the first one compiles', num_steps - start_step)
        writers = stack.enter_context(Writers(workdir, start_step, active=main))
        progress = stack.enter_context(Progress(num_steps, start_step, active=main))
        batches = input_pipeline.prefetch_to_device(iterator, devices.shard_batch, data.prefetch)
        stack.enter_context(contextlib.closing(batches))
        pending: list[Any] = []
        frozen: set[int] = set()
        clock = time.monotonic()
        for step in range(start_step + 1, num_steps + 1):
            if config.finetune.freeze_steps and step == config.finetune.freeze_steps + 1:
                _LOG.info('step %d: nothing is frozen any more; this step compiles', step)
            batch, data_state = next(batches)
            state, metrics = learner.train_step(state, batch, step)
            pending.append(metrics)
            # Signals are looked for between steps, and all steps dispatched by then are finished.
            if len(pending) > STEPS_AHEAD:
                devices.wait_for(pending[-1 - STEPS_AHEAD])
            log = step % config.train.log_every_steps == 0
            ended = step % eval_every == 0 if eval_every else epoch(step) > epoch(step - 1)
            validate = ended or step == num_steps
            # Several processes have to agree to stop, which takes them a round trip.
            ask = log or devices.process_count() == 1
            stop = ask and step < num_steps and devices.any_process(interruption.requested)
            save = validate or stop or (save_every > 0 and step % save_every == 0)
            # A row before every checkpoint, so that a continued run averages over the same steps.
            if log or save:
                row = learner.summarize(pending, state)
                report_nonfinite(learner, state, frozen, workdir)
                row['train/learning_rate'] = float(learning_rate_fn(step - 1))
                images = len(pending) * config.train.batch_size
                row['train/images_per_second'] = images / (time.monotonic() - clock)
                writers.write(step, row)
                progress.show(step, row)
                pending = []
            chosen_by: dict[int | None, float] = {}
            if validate and data.validation_split:
                scores, chosen_by = validation.validate(
                    trained.describe(
                        config, workdir, learner, state, 'last', step, predicts=learnt
                    ),
                    datasets,
                )
                row = {f'validation/{name}': value for name, value in scores.items()}
                writers.write(step, {'epoch': step / steps_per_epoch, **row})
                progress.show(step, row)
            if save:
                saved.save(step, learner.to_save(state), data_state, config.to_dict(), chosen_by)
            if log or save:
                clock = time.monotonic()
            if stop:
                saved.wait()
                raise Stopped(
                    f'{workdir}: stopped by {interruption.name or "another process"} and saved '
                    f'after step {step} of {num_steps}; the same command continues from there'
                )
        saved.wait()
        if devices.any_process(interruption.requested):
            raise Stopped(
                f'{workdir}: stopped by {interruption.name or "another process"} after the last '
                'step; the same command evaluates'
            )
        # A run that was shortened may end before its first validation.
        which = 'best' if data.validation_split and saved.has_best() else 'last'
        best_step, best = max(start_step, num_steps), state
        if which == 'best':
            best_step, best = recovery.restore_best(saved, target)
        elif data.validation_split:
            _LOG.warning('%s: no checkpoint was validated; the last one is evaluated', workdir)
        best_scores = saved.scores(best_step)

    if main:
        plots.plot_training_curves(workdir / METRICS, workdir / 'training_curves.png')
    _LOG.info('%s: evaluating the %s checkpoint, step %d', workdir, which, best_step)
    model = trained.describe(config, workdir, learner, best, which, best_step, best_scores, learnt)
    for split in filter(None, (data.validation_split, data.test_split)):
        for dataset in datasets:
            evaluate.evaluate_split([model], dataset.builder, split, workdir)
    return state
