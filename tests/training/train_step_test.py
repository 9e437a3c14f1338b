import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.training import finetuning
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import create_train_state
from hybrid.training.train_step import average, create_train_step

# In one process of pytest, which compiles each program once.
pytestmark = pytest.mark.xdist_group('train_step')

BATCH = 8
# Of years; they rise, so that a wrong one would be another one.
AGE_WEIGHTS = np.linspace(0.5, 1.5, 101).tolist()


def summarize(steps):
    return {f'train/{name}': float(value) for name, value in average(steps).items()}


def with_everything(config):
    """One config for all tests, so that there is one program for each number of devices."""
    config.model.head.dropout = 0.5
    config.augment.shift = 0.1
    config.augment.blur, config.augment.gamma, config.augment.noise = 0.02, 0.3, 0.05
    config.augment.mixup, config.augment.cutmix = 0.4, 1.0
    config.loss.age_weight, config.loss.gender_weight = 3.0, 0.5
    config.optimizer.ema_decay = 0.9
    return config


@pytest.fixture(scope='module')
def config(create_tiny_config):
    return with_everything(create_tiny_config())


@pytest.fixture(scope='module')
def runner(config):
    """`runner(devices)`, which compiles once."""
    return functools.cache(functools.partial(Runner, config))


def make_batches(config, count, seed=0):
    rng = np.random.default_rng(seed)
    size = config.data.resize_size
    batches = []
    for _ in range(count):
        age = rng.uniform(1, 90, BATCH).astype(np.float32)
        gender = rng.integers(0, 2, BATCH).astype(np.int32)
        # No known age on the first of two devices, and on two of four.
        age[:4], gender[1:3] = np.nan, -1
        batches.append(
            {
                'image': rng.integers(0, 256, (BATCH, size, size, 3)).astype(np.uint8),
                'age': age,
                'gender': gender,
                'mask': np.ones(BATCH, np.float32),
                'position': np.arange(BATCH, dtype=np.int32),
            }
        )
    return batches


class Runner:
    """Trains on a number of devices."""

    def __init__(self, config, count):
        learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
        finetune = finetuning.create(config)
        self.tx = create_optimizer(config.optimizer, learning_rate_fn, finetune)
        self.model = create_model(config.model, frozen_stages=finetune.frozen_stages)
        self.devices = jax.devices()[:count]
        self.sharding = NamedSharding(Mesh(np.array(self.devices), ('batch',)), PartitionSpec())
        self.step = jax.pmap(
            create_train_step(self.model, self.tx, config, AGE_WEIGHTS),
            axis_name=devices.AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            devices=self.devices,
        )
        self.initial = create_train_state(self.model, self.tx, config)

    def run(self, state, batches):
        state = jax.device_put(jax.tree.map(np.array, state), self.sharding)
        count = len(self.devices)
        rows = []
        for batch in batches:
            batch = {k: v.reshape(count, -1, *v.shape[1:]) for k, v in batch.items()}
            state, metrics = self.step(state, batch)
            rows.append(summarize([metrics]))
        return jax.device_get(state), rows


def distance(a, b):
    """Norm of the difference over norm, whole tree."""
    difference = optax.tree.norm(jax.tree.map(lambda x, y: x - y, a, b))
    return float(difference / optax.tree.norm(b))


@pytest.mark.long
def test_one_two_and_four_devices_train_the_same(config, runner):
    batches = make_batches(config, 10)
    reference = runner(1)
    _, rows = reference.run(reference.initial, batches)
    one_step, _ = reference.run(reference.initial, batches[:1])
    for count in (2, 4):
        several = runner(count)
        after, _ = several.run(several.initial, batches[:1])
        assert distance(after.params, one_step.params) < 1e-5
        assert distance(after.batch_stats, one_step.batch_stats) < 1e-5
        _, others = several.run(several.initial, batches)
        assert others[0]['train/loss'] == pytest.approx(rows[0]['train/loss'], rel=1e-6)
        np.testing.assert_allclose(
            [r['train/loss'] for r in others], [r['train/loss'] for r in rows], rtol=1e-5
        )
        for name in ('train/age_loss', 'train/gender_loss', 'train/age_mae'):
            assert others[0][name] == pytest.approx(rows[0][name], rel=1e-5)
        assert others[0]['train/gender_accuracy'] == rows[0]['train/gender_accuracy']


def test_loss_is_the_weighted_sum_of_means_over_known_labels(config, runner):
    two = runner(2)
    _, rows = two.run(two.initial, make_batches(config, 1))
    row = rows[0]
    assert row['train/loss'] == pytest.approx(
        3 * row['train/age_loss'] + 0.5 * row['train/gender_loss'], rel=1e-6
    )


@pytest.mark.long
def test_member_and_step_change_augmentation_and_dropout_but_the_position_alone_counts(
    config, runner
):
    one = runner(1)
    batch = make_batches(config, 1)
    _, first = one.run(one.initial, batch)
    _, again = one.run(one.initial, batch)
    assert first == again
    for change in ({'member': jnp.int32(1)}, {'step': jnp.int32(5)}):
        _, other = one.run(dataclasses.replace(one.initial, **change), batch)
        assert other[0]['train/loss'] != first[0]['train/loss']
    # Another order of the same examples, each with its position: the same step.
    order = np.random.default_rng(1).permutation(BATCH)
    _, moved = one.run(one.initial, [{k: v[order] for k, v in batch[0].items()}])
    assert moved[0]['train/loss'] == pytest.approx(first[0]['train/loss'], rel=1e-6)


def test_a_step_that_is_not_finite_freezes_the_state(config, runner):
    batches = make_batches(config, 3)
    two = runner(2)
    good, _ = two.run(two.initial, batches[:1])
    batches[1]['age'][5] = np.inf
    state, rows = two.run(two.initial, batches)
    assert int(state.nonfinite_step) == 1
    assert not np.isfinite(rows[1]['train/loss'])
    assert int(good.nonfinite_step) == -1
    frozen = state.replace(nonfinite_step=good.nonfinite_step)
    jax.tree.map(np.testing.assert_array_equal, frozen, good)


@pytest.mark.long
def test_the_largest_losses_are_left_out_more_and_more(config, create_tiny_config, runner):
    forgetting = with_everything(create_tiny_config())
    forgetting.loss.forget_rate, forgetting.loss.forget_steps = 0.5, 5
    batch, runners = make_batches(config, 1), (runner(1), Runner(forgetting, 1))
    # At first a tenth of four ages and of six genders, which is none; later a half.
    for step, left_out in ((0, False), (5, True)):
        rows = []
        for one in runners:
            state = dataclasses.replace(one.initial, step=jnp.int32(step))
            rows += one.run(state, batch)[1]
        for name in ('train/age_loss', 'train/gender_loss'):
            all_of_them, without = (row[name] for row in rows)
            if left_out:
                assert without < all_of_them
            else:
                assert without == pytest.approx(all_of_them, rel=1e-6)


def test_moving_average_of_the_parameters(config, runner):
    one = runner(1)
    batches = make_batches(config, 2)
    first, _ = one.run(one.initial, batches[:1])
    second, _ = one.run(one.initial, batches)
    # Decay min(0.9, (1 + step) / (10 + step)): 0.1 at step 0, 2 / 11 at step 1.
    expected = jax.tree.map(
        lambda start, a, b: 2 / 11 * (0.1 * start + 0.9 * a) + 9 / 11 * b,
        jax.device_get(one.initial.params),
        first.params,
        second.params,
    )
    assert distance(second.ema['params'], expected) < 1e-6
    mean = first.batch_stats['encoder']['bn1']['mean']
    start = one.initial.batch_stats['encoder']['bn1']['mean']
    np.testing.assert_allclose(
        first.ema['batch_stats']['encoder']['bn1']['mean'], 0.1 * start + 0.9 * mean, rtol=1e-5
    )
    assert second.eval_variables is second.ema
    assert first.replace(ema=None).eval_variables['params'] is first.params


def test_summarize_averages_over_examples_with_known_labels(config, runner):
    two = runner(2)
    batches = make_batches(config, 2)
    batches[1]['age'][:] = np.nan
    batches[1]['age'][0] = 30
    state = jax.device_put(jax.tree.map(np.array, two.initial), two.sharding)
    steps, rows = [], []
    for batch in batches:
        batch = {k: v.reshape(2, -1, *v.shape[1:]) for k, v in batch.items()}
        state, metrics = two.step(state, batch)
        steps.append(metrics)
        rows.append(summarize([metrics]))
    both = summarize(steps)
    expected = (4 * rows[0]['train/age_mae'] + 1 * rows[1]['train/age_mae']) / 5
    assert both['train/age_mae'] == pytest.approx(expected, rel=1e-6)
    assert both['train/loss'] == pytest.approx(np.mean([r['train/loss'] for r in rows]), rel=1e-6)
