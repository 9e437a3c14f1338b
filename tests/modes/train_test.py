import json
import logging

import jax
import numpy as np
import pytest

from hybrid import devices
from hybrid.modes import train
from hybrid.runs import checkpoints
from hybrid.runs.interruption import Interruption
from hybrid.runs.writers import METRICS
from hybrid.training import learner, learners


def read_metrics(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def without_clock(rows):
    return [{k: v for k, v in row.items() if k != 'train/images_per_second'} for row in rows]


class Killed(BaseException):
    """Stands for kill -9: nothing in the program catches it."""


def kill_at(monkeypatch, step):
    """Lets the run die right after the given step was computed."""
    original = learner.SingleModel.summarize
    seen = 0

    def dying(self, steps, state):
        nonlocal seen
        seen += len(steps)
        if seen > step:
            raise Killed
        return original(self, steps, state)

    monkeypatch.setattr(learner.SingleModel, 'summarize', dying)


@pytest.fixture
def config(tiny_config):
    tiny_config.train.num_steps = 9
    tiny_config.train.checkpoint_every_steps = 3
    tiny_config.train.log_every_steps = 2
    tiny_config.optimizer.ema_decay = 0.9
    return tiny_config


@pytest.mark.slow  # restart_test.py does the same from outside
def test_interrupted_and_continued_ends_bit_for_bit_the_same(config, tmp_path, monkeypatch):
    whole = train.train_and_evaluate(config, tmp_path / 'whole')
    for step in (5, 4):  # after the checkpoint at step 4 (validation), then right at the start
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train.train_and_evaluate(config, tmp_path / 'parts')
    continued = train.train_and_evaluate(config, tmp_path / 'parts')

    jax.tree.map(np.testing.assert_array_equal, whole, continued)
    assert int(whole.step) == 9
    rows = read_metrics(tmp_path / 'whole')
    assert without_clock(read_metrics(tmp_path / 'parts')) == without_clock(rows)
    assert [r['step'] for r in rows if 'validation/age/mae' in r] == [4, 8, 9]
    for split in ('validation', 'test'):
        for name in ('metrics.json', 'predictions.csv'):
            path = f'evaluation/{split}/{name}'
            assert (tmp_path / 'parts' / path).read_bytes() == (
                tmp_path / 'whole' / path
            ).read_bytes()

    # The best checkpoint is the one with the lowest validation MAE, and the latest is kept too.
    maes = {r['step']: r['validation/age/mae'] for r in rows if 'validation/age/mae' in r}
    saved = checkpoints.Checkpoints(tmp_path / 'whole', read_only=True)
    best = min(maes, key=lambda step: maes[step])
    assert saved.steps() == sorted({best, 8, 9})
    assert saved.step('best') == best
    # ... and is what was reported on validation.
    reported = json.loads((tmp_path / 'whole/evaluation/validation/metrics.json').read_text())
    assert reported['age/mae'] == pytest.approx(maes[best], rel=1e-6)


@pytest.mark.long
def test_few_steps_are_on_their_way_when_a_signal_comes(config, tmp_path, monkeypatch):
    dispatched, waited = [], []
    create, wait_for = learners.create, devices.wait_for

    def create_counting(config, tx, age_weights):
        made = create(config, tx, age_weights)
        step = made.train_step

        def dispatch(state, batch, number):
            dispatched.append(number)
            return step(state, batch, number)

        monkeypatch.setattr(made, 'train_step', dispatch)
        return made

    def wait(metrics):
        waited.append(len(dispatched))
        wait_for(metrics)

    monkeypatch.setattr(learners, 'create', create_counting)
    monkeypatch.setattr(devices, 'wait_for', wait)
    config.train.num_steps, config.train.log_every_steps = 7, 5
    config.train.checkpoint_every_steps, config.train.eval_every_steps = 0, 7
    train.train_and_evaluate(config, tmp_path)
    # Of five steps that are read together the third and later ones wait for the one two before.
    assert waited == [3, 4, 5]


@pytest.mark.long
def test_each_step_is_compiled_once(config, tmp_path):
    names = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event.endswith('backend_compile_duration'):
            names.append(str(details['fun_name']))

    config.train.num_steps = 2
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train.train_and_evaluate(config, tmp_path)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    # Training and evaluation.
    assert [name for name in names if '_fun' in name] == ['jit(_fun)'] * 2


@pytest.mark.slow  # two trainings; workdir_test.py and checkpoints_test.py have the refusals alone
def test_a_refused_overwrite_leaves_the_workdir_as_it_was(config, tmp_path):
    config.train.num_steps = 3
    train.train_and_evaluate(config, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ('config.json', 'dataset.json')}
    for changes, message in (
        ({'model.recurrent.cell': 'gru'}, 'does not fit this config'),
        ({'train.batch_size': 4}, r'train\.batch_size is 8 there, 4 now'),
        ({'data.train_split': 'validation', 'data.validation_split': ''}, 'data.train_split is'),
    ):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict(changes)
        with pytest.raises(ValueError, match=message):
            train.train_and_evaluate(other, tmp_path, overwrite_config=True)
        for name, content in before.items():
            assert (tmp_path / name).read_bytes() == content
    config.train.num_steps = 4
    train.train_and_evaluate(config, tmp_path, overwrite_config=True)
    assert json.loads((tmp_path / 'config.json').read_text())['train']['num_steps'] == 4


@pytest.mark.long
def test_a_run_that_is_shortened_before_its_first_validation_is_evaluated(
    config, tmp_path, monkeypatch, caplog
):
    # What an attempt on other data left that ended before its first checkpoint.
    (tmp_path / 'face_ranges.json').write_text('{"size": [1, 2]}')
    (tmp_path / 'shared.csv').write_text('of two datasets')
    config.train.num_steps, config.train.eval_every_steps = 9, 9
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, 'requested', property(lambda self: next(asked) >= 2))
        with pytest.raises(train.Stopped, match=r'saved after step \d of 9'):
            train.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / 'shared.csv').exists()
    assert 'size' not in json.loads((tmp_path / 'face_ranges.json').read_text())
    config.train.num_steps = 1
    logging.getLogger('hybrid').propagate = True
    train.train_and_evaluate(config, tmp_path, overwrite_config=True)
    assert 'no checkpoint was validated; the last one is evaluated' in caplog.text
    about = json.loads((tmp_path / 'evaluation/test/evaluation.json').read_text())
    assert about['checkpoint'] == 'last'


def test_labels_that_are_all_the_same_are_warned_of(config, caplog):
    columns = {
        split: {
            'age': np.array(ages, np.float32),
            'age_min': np.array(ages, np.float32),
            'age_max': np.array(ages, np.float32),
            'gender': np.array(genders),
        }
        for split, ages, genders in (
            ('train', [30, np.nan, 30], [1, -1, 1]),
            ('validation', [20, 30, 40], [0, 1, 1]),
        )
    }
    train.check_labels('mine', columns, config, ('age', 'gender'))
    assert [record.getMessage().split(',')[0] for record in caplog.records] == [
        "mine: all ages of 'train' that are known are 30",
        "mine: all genders of 'train' that are known are female",
    ]
    caplog.clear()
    columns['train']['gender'][0] = 0
    columns['train']['age_min'][1], columns['train']['age_max'][1] = 20, 50
    train.check_labels('mine', columns, config, ('age', 'gender'))
    assert not caplog.records


def test_weights_that_cannot_be_fitted_are_refused_before_the_training(config, tmp_path):
    config.ensemble.size, config.ensemble.weights = 2, 'validation'
    config.data.validation_split = ''
    with pytest.raises(ValueError, match=r"weights='validation' needs config\.data\.valid"):
        train.train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('train.batch_size', 6, r'config\.train\.batch_size=6 cannot be divided over 4 devices'),
        ('evaluate.batch_size', 3, r'config\.evaluate\.batch_size=3 cannot'),
        ('data.image_size', 40, r'image_size=40 must be at most config\.data\.resize_size=36'),
        ('train.log_every_steps', 0, 'log_every_steps=0'),
        ('data.image_size', 33, 'image_size=33 must be .* less by an even number'),
        ('data.validation_split', 'train', 'names a split twice'),
        ('data.train_split', '', "train_split='' must name a split"),
        ('seed', -1, r'config\.seed=-1 must be in 0'),
        ('optimizer.gradient_clip', -1.0, r'gradient_clip=-1\.0 must be 0 or more'),
        ('data.validation_split', 'val', "no split 'val'; it has test, train, validation"),
        ('data.normalization', 'x', "normalization='x'"),
        ('loss.age', 'l2', r"config\.loss\.age='l2' is not one of mse, l1, huber"),
        ('loss.label_smoothing', 1.5, r'label_smoothing=1\.5 must be in 0\.\.1'),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(config, tmp_path, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        train.train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
